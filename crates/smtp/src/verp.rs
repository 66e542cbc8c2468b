//! Variable envelope return paths: a sender of its own for each recipient, so that whatever comes back for
//! it says whom it is about, however odd its text. Made here, and read back here.

use std::fmt;
use std::str::FromStr;

use crate::address::Mailbox;
use crate::id::QueueId;

/// How the sender is made: `bounces+{id}-{recipient}@bounce.example.com`, or Postfix's form,
/// `{local}+{recipient}@{domain}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The queue id of the message.
    Id,
    /// `user=domain`
    Recipient,
    /// The local part of the sender that the message came with.
    Local,
    /// Its domain.
    Domain,
}

const WORDS: [(&str, Part); 4] = [
    ("{id}", Part::Id),
    ("{recipient}", Part::Recipient),
    ("{local}", Part::Local),
    ("{domain}", Part::Domain),
];

/// What is wrong with a template, and the fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoTemplate(&'static str);

/// What an address tells that was made by a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub id: Option<QueueId>,
    /// As it was written in the envelope.
    pub recipient: Option<Mailbox>,
}

impl FromStr for Template {
    type Err = NoTemplate;

    fn from_str(text: &str) -> Result<Template, NoTemplate> {
        let mut parts: Vec<Part> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let word = WORDS.iter().find(|(word, _)| rest.starts_with(word));
            if let Some((word, part)) = word {
                if matches!(parts.last(), Some(last) if !matches!(last, Part::Text(_))) {
                    return Err(NoTemplate(
                        "something must stand between two {words}, or they cannot be told apart",
                    ));
                }
                parts.push(part.clone());
                rest = rest.get(word.len()..).unwrap_or_default();
                continue;
            }
            let next = WORDS.iter().filter_map(|(word, _)| rest.find(word)).min();
            let (literal, behind) = rest.split_at(next.unwrap_or(rest.len()));
            if literal.contains(['{', '}']) {
                return Err(NoTemplate(
                    "{id}, {recipient}, {local} and {domain} are known",
                ));
            }
            parts.push(Part::Text(literal.to_ascii_lowercase()));
            rest = behind;
        }
        let template = Template { parts };
        if !template.has(&Part::Id) && !template.has(&Part::Recipient) {
            return Err(NoTemplate(
                "it says of nobody: write {recipient} or {id} into it",
            ));
        }
        template.check()?;
        Ok(template)
    }
}

impl Template {
    /// The sender for this recipient. None: it would be no address (too long, or not to be said without
    /// quotes); the message keeps its own sender then.
    pub fn sender(&self, id: QueueId, sender: &Mailbox, recipient: &Mailbox) -> Option<Mailbox> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text += literal,
                Part::Id => text += &id.to_string(),
                Part::Recipient => {
                    text += recipient.local_part();
                    text.push('=');
                    text += &recipient.host().to_ascii();
                }
                Part::Local => text += sender.local_part(),
                Part::Domain => text += &sender.host().to_ascii(),
            }
        }
        let made = Mailbox::parse(&text).ok()?;
        // It must come back to what it was made of, and to this alone.
        let read = self.read(&made)?;
        let whole = (!self.has(&Part::Id) || read.id == Some(id))
            && (!self.has(&Part::Recipient) || read.recipient.as_ref() == Some(recipient));
        (text.is_ascii() && whole).then_some(made)
    }

    /// What an address says that mail has come back to. None: it was not made by this template. Its case may
    /// have been lost on the way, but for the recipient's local part that matters little.
    pub fn read(&self, address: &Mailbox) -> Option<Read> {
        let text = format!("{}@{}", address.local_part(), address.host().to_ascii());
        let mut read = Read {
            id: None,
            recipient: None,
        };
        let mut rest = text.as_str();
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            let value = match part {
                Part::Text(literal) => {
                    let (begin, behind) = rest.split_at_checked(literal.len())?;
                    if !begin.eq_ignore_ascii_case(literal) {
                        return None;
                    }
                    rest = behind;
                    continue;
                }
                Part::Id => rest.get(..ID_CHARACTERS)?,
                Part::Recipient | Part::Local | Part::Domain => match parts.peek() {
                    None => rest,
                    Some(Part::Text(next)) => rest.get(..end_before(rest, next, part)?)?,
                    Some(_) => return None,
                },
            };
            rest = rest.get(value.len()..)?;
            match part {
                Part::Text(_) => {}
                Part::Id => read.id = Some(value.to_ascii_lowercase().parse().ok()?),
                Part::Recipient => {
                    let (local, domain) = value.rsplit_once('=')?;
                    read.recipient = Some(Mailbox::parse(&format!("{local}@{domain}")).ok()?);
                }
                Part::Local | Part::Domain if value.is_empty() => return None,
                Part::Local | Part::Domain => {}
            }
        }
        rest.is_empty().then_some(read)
    }

    /// Whether all its addresses are in domains of its own, so that no other mail goes to them.
    pub fn has_its_own_domain(&self) -> bool {
        let behind_the_sign = |part: &Part| match part {
            Part::Text(text) => text.contains('@'),
            Part::Id | Part::Recipient | Part::Local | Part::Domain => false,
        };
        let at = self.parts.iter().position(behind_the_sign);
        let behind = at
            .and_then(|at| self.parts.get(at + 1..))
            .unwrap_or_default();
        !behind.contains(&Part::Domain)
    }

    fn has(&self, part: &Part) -> bool {
        self.parts.contains(part)
    }

    /// Whether it makes addresses at all.
    fn check(&self) -> Result<(), NoTemplate> {
        let address = |text| Mailbox::parse(text).map_err(|_| NoTemplate("no address"));
        let (sender, recipient) = (address("a@s.example")?, address("b@r.example")?);
        let made = self.sender(QueueId::from_u64(1), &sender, &recipient);
        made.map(drop).ok_or(NoTemplate(
            "no address comes of it; write bounces+{id}-{recipient}@bounce.example.com",
        ))
    }
}

const ID_CHARACTERS: usize = 12;

/// Where a value ends: before the first place at which what follows may stand; the recipient, whose local part
/// may be anything, before the last one.
fn end_before(text: &str, next: &str, part: &Part) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    match part {
        Part::Recipient => lower.rfind(next),
        Part::Text(_) | Part::Id | Part::Local | Part::Domain => lower.find(next),
    }
}

/// As it was written, in lower case.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let word = WORDS.iter().find(|(_, known)| known == part);
            match (part, word) {
                (Part::Text(literal), _) => f.write_str(literal)?,
                (_, Some((word, _))) => f.write_str(word)?,
                (_, None) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    const OURS: &str = "bounces+{id}-{recipient}@bounce.example.com";
    const POSTFIX: &str = "{local}+{recipient}@{domain}";

    #[test]
    fn a_sender_says_who_the_recipient_is() {
        let id: QueueId = "1agf7aan0000".parse().unwrap();
        let (sender, recipient) = (mailbox("list@s.example"), mailbox("b+x=y@r.example"));
        for (template, made) in [
            (
                OURS,
                "bounces+1agf7aan0000-b+x=y=r.example@bounce.example.com",
            ),
            (POSTFIX, "list+b+x=y=r.example@s.example"),
            ("b-{id}@b.example", "b-1agf7aan0000@b.example"),
            (
                "{recipient}@{id}.b.example",
                "b+x=y=r.example@1agf7aan0000.b.example",
            ),
        ] {
            let template: Template = template.parse().unwrap();
            let sender = template.sender(id, &sender, &recipient);
            assert_eq!(sender, Some(mailbox(made)));
            let read = template.read(&mailbox(made)).unwrap();
            assert!(read.id == Some(id) || read.recipient.as_ref() == Some(&recipient));
            let shouted = mailbox(&made.to_uppercase());
            assert!(template.read(&shouted).is_some(), "{shouted}");
        }
    }

    #[test]
    fn what_would_be_no_address_is_not_made() {
        let template: Template = OURS.parse().unwrap();
        let id = QueueId::from_u64(7);
        let sender = mailbox("list@s.example");
        for recipient in [
            "a-name-of-many-letters-and-more@a-domain-of-many-letters.example",
            "\"quoted part\"@r.example",
            "gr\u{fc}n@r.example",
        ] {
            assert_eq!(
                template.sender(id, &sender, &mailbox(recipient)),
                None,
                "{recipient}"
            );
        }
        // The sender's own sign would be taken for the template's.
        let template: Template = POSTFIX.parse().unwrap();
        let sender = mailbox("list+news@s.example");
        assert_eq!(template.sender(id, &sender, &mailbox("b@r.example")), None);
    }

    #[test]
    fn other_addresses_say_nothing() {
        let template: Template = OURS.parse().unwrap();
        for address in [
            "bounces@bounce.example.com",
            "bounces+1agf7aan0000-b@bounce.example.com",
            "bounces+1agf7aan00-b=r.example@bounce.example.com",
            "bounces+1agf7aan0000-b=r.example@other.example.com",
            "bounces+uuuuuuuuuuuu-b=r.example@bounce.example.com",
            "bounces+1agf7aan0000-b=@bounce.example.com",
        ] {
            assert_eq!(template.read(&mailbox(address)), None, "{address}");
        }
    }

    #[test]
    fn a_template_tells_whether_other_mail_may_go_to_its_addresses() {
        for (template, own) in [
            (OURS, true),
            ("{recipient}@{id}.b.example", true),
            ("{id}={domain}@b.example", true),
            (POSTFIX, false),
            ("{id}@bounce.{domain}", false),
        ] {
            let template: Template = template.parse().unwrap();
            assert_eq!(template.has_its_own_domain(), own, "{template}");
        }
    }

    #[test]
    fn a_template_that_says_nothing_or_makes_no_address_is_refused() {
        for text in [
            "",
            "bounces@bounce.example",
            "{recipient}",
            "b{id}{recipient}@b.example",
            "b+{rcpt}-{id}@b.example",
            "b+{id@b.example",
            "b {id}@b.example",
            "{local}@{domain}",
        ] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
        assert_eq!(OURS.parse::<Template>().unwrap().to_string(), OURS);
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_back(
            local in "[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}",
            domain in "[a-z][a-z0-9-]{0,8}[a-z]\\.example",
            list in "[a-z+=-]{1,8}",
            number in 0u64..(1 << 60),
            form in prop_oneof![Just(OURS), Just(POSTFIX)],
        ) {
            let template: Template = form.parse().unwrap();
            let recipient = mailbox(&format!("{local}@{domain}"));
            let sender = mailbox(&format!("{list}@s.example"));
            if let Some(made) = template.sender(QueueId::from_u64(number), &sender, &recipient) {
                let read = template.read(&made).unwrap();
                prop_assert_eq!(read.recipient, Some(recipient));
            }
        }

        #[test]
        fn no_address_makes_it_panic(local in "[a-z0-9+=-]{1,40}", host in "[a-z]{1,9}\\.example") {
            let template: Template = OURS.parse().unwrap();
            let _ = template.read(&mailbox(&format!("{local}@{host}")));
        }
    }
}

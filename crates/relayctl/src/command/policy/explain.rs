//! `relayctl policy explain`: what a code means by itself, what follows from it, and which rules name it.

use std::process::ExitCode;

use jiff::Timestamp;
use relay_policy::{CodeRange, Context, Decision, Stimulus, Table, decide, meaning, parse_pasted};
use relay_smtp::{EnhancedStatus, Phase, Reply};
use serde::Serialize;

use super::answer::{Answer, describe, for_people};
use super::{Explain, Trouble, load, print_line};

#[derive(Debug, Serialize)]
struct Explained<'a> {
    /// As it was asked.
    asked: &'a str,
    means: String,
    /// What follows from the code alone, at RCPT; absent for a range.
    #[serde(flatten)]
    alone: Option<&'a Answer>,
    /// The codes of a range that are in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    codes: Vec<InUse>,
    /// The rules that name this code.
    rules: &'a [String],
}

/// One code of a range.
#[derive(Clone, Debug, Serialize)]
struct InUse {
    code: String,
    means: &'static str,
    /// What follows from it alone, at RCPT. Of `x.7.26` as 5.7.26.
    category: &'static str,
    action: &'static str,
}

pub(super) fn run(explain: &Explain) -> Result<ExitCode, Trouble> {
    let table = load(&explain.tables)?;
    let range = CodeRange::parse(&explain.code).ok_or_else(|| {
        Trouble::usage(format!(
            "{:?} is no reply code; write a basic code such as 451, an enhanced one such as 5.7.26, or a range such as 5xx, 5.7, x.7.x, 4.7.500-4.7.699",
            explain.code
        ))
    })?;
    let rules: Vec<String> = range
        .named_by(&table)
        .into_iter()
        .map(|rule| format!("{} ({})", rule.name, rule.place))
        .collect();
    let told = Told {
        asked: &explain.code,
        means: means(&range),
        replies: replies(&range),
        codes: in_use(&table, &range),
        rules: &rules,
        table: &table,
    };
    if explain.json {
        told.print_json()?;
    } else {
        told.print();
    }
    Ok(ExitCode::SUCCESS)
}

struct Told<'a> {
    asked: &'a str,
    means: String,
    /// The code as a reply without a text, for each class it can have; of a range none.
    replies: Vec<Reply>,
    codes: Vec<InUse>,
    rules: &'a [String],
    table: &'a Table,
}

impl Told<'_> {
    fn print_json(&self) -> Result<(), Trouble> {
        let line = |alone: Option<&Answer>| {
            print_line(&Explained {
                asked: self.asked,
                means: self.means.clone(),
                alone,
                codes: self.codes.clone(),
                rules: self.rules,
            })
        };
        if self.replies.is_empty() {
            return line(None);
        }
        for reply in &self.replies {
            line(Some(&describe(
                reply,
                Phase::Rcpt,
                &alone(self.table, reply),
            )))?;
        }
        Ok(())
    }

    fn print(&self) {
        println!("{:9} {}\n{:9} {}", "code", self.asked, "means", self.means);
        for reply in &self.replies {
            let decision = alone(self.table, reply);
            let answer = describe(reply, Phase::Rcpt, &decision);
            println!("\nAlone, without a text, in answer to RCPT:");
            print!("{}", for_people(&answer, &decision, Timestamp::now()));
        }
        if !self.codes.is_empty() {
            println!("\nThose in use, and what follows from each alone, in answer to RCPT:");
        }
        for InUse {
            code,
            means,
            category,
            action,
        } in &self.codes
        {
            println!("  {code:9} {means}\n  {:9} {category}, {action}", "");
        }
        if !self.rules.is_empty() {
            println!("\nRules that name it, in the order in which they are tried:");
        }
        for rule in self.rules {
            println!("  {rule}");
        }
    }
}

fn alone(table: &Table, reply: &Reply) -> Decision {
    decide(table, Stimulus::Reply(reply), &Context::of(Phase::Rcpt))
}

fn means(range: &CodeRange) -> String {
    match range {
        CodeRange::Basic(codes) => {
            let code = *codes.start();
            let digit = meaning::of_digit(code);
            match (codes.start() == codes.end(), meaning::of_basic(code)) {
                (true, Some(known)) => format!("{known} ({}xx: {digit})", code / 100),
                (true, None) => format!(
                    "{}xx: {digit}; the other digits are in no common use",
                    code / 100
                ),
                (false, _) if code / 100 != codes.end() / 100 => "codes of several classes".into(),
                (false, _) => digit.to_owned(),
            }
        }
        CodeRange::Enhanced(codes) => match (codes.subject, &codes.single()[..]) {
            (_, [code, ..]) => {
                let subject = meaning::of_subject(code.subject);
                match meaning::of_enhanced(*code) {
                    Some(known) => format!("{known} (x.{}.x: {subject})", code.subject),
                    None => format!(
                        "speaks of {subject}; the detail {} is in no common use",
                        code.detail
                    ),
                }
            }
            (Some(subject), []) => format!("speaks of {}", meaning::of_subject(subject)),
            (None, []) => {
                let class = codes.classes.first().map_or(0, |class| class.digit());
                meaning::of_digit(u16::from(class) * 100).to_owned()
            }
        },
    }
}

fn replies(range: &CodeRange) -> Vec<Reply> {
    match range {
        CodeRange::Basic(codes) if codes.start() == codes.end() => {
            vec![Reply::new(*codes.start(), None, "")]
        }
        CodeRange::Basic(_) => Vec::new(),
        CodeRange::Enhanced(codes) => codes.single().into_iter().map(reply_of).collect(),
    }
}

fn reply_of(code: EnhancedStatus) -> Reply {
    let basic = match code.class.digit() {
        2 => 250,
        4 => 450,
        _ => 550,
    };
    Reply::new(basic, Some(code), "")
}

/// Of a single code nothing: its meaning stands above.
fn in_use(table: &Table, range: &CodeRange) -> Vec<InUse> {
    if !replies(range).is_empty() {
        return Vec::new();
    }
    let decided = |(code, means): (String, &'static str)| {
        let enhanced = code.replace('x', "5").parse::<EnhancedStatus>();
        let reply = match enhanced {
            Ok(enhanced) => reply_of(enhanced),
            Err(_) => parse_pasted(&code).ok()?,
        };
        let decision = alone(table, &reply);
        Some(InUse {
            code,
            means,
            category: decision.category.word(),
            action: decision.action.word(),
        })
    };
    range.in_use().into_iter().filter_map(decided).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> CodeRange {
        CodeRange::parse(text).unwrap()
    }

    #[test]
    fn one_code_is_told_with_what_follows_and_a_range_with_the_codes_in_it() {
        let table = Table::default_table();
        for (text, single, codes) in [
            ("451", 1, 0),
            ("x.7.26", 2, 0),
            ("4.7.500", 1, 0),
            ("55", 0, 7),
            ("x.7.x", 0, 44),
            ("4.7.500-4.7.699", 0, 5),
        ] {
            let range = range(text);
            let counts = (replies(&range).len(), in_use(&table, &range).len());
            assert_eq!(counts, (single, codes), "{text}");
            assert!(means(&range).len() > 3, "{text}");
        }
        let codes = in_use(&table, &range("5.7"));
        let of = |code: &str| codes.iter().find(|one| one.code == code).unwrap();
        assert_eq!(of("5.7.26").category, "auth-failed");
        assert_eq!(of("5.7.26").action, "alert");
    }

    #[test]
    fn what_programs_make_up_is_said_to_be_made_up() {
        for code in ["101", "111", "441", "442", "447", "449"] {
            let means = means(&range(code));
            assert!(!means.contains("in no common use"), "{code}: {means}");
        }
        assert!(means(&range("111")).contains("no server sends it"));
        assert!(means(&range("499")).starts_with("4xx: not now"));
        assert_eq!(means(&range("4.x.x")), "not now: the same may work later");
    }
}

//! A message that has gone, put together from the history in the form of one that is in the queue.

use jiff::Timestamp;
use relay_observe::history::Entry;
use relay_queue::{OPERATOR, State};
use relay_smtp::QueueId;

use crate::view::{AttemptView, MessageDetail, MessageView, RecipientView};

/// None: the history knows nothing of it.
pub fn detail(id: QueueId, entries: &[Entry]) -> Option<MessageDetail> {
    // What only mentions it is about another message: that of a report.
    let own: Vec<&Entry> = entries
        .iter()
        .filter(|entry| entry.id == Some(id))
        .collect();
    own.first()?;
    let begun = own.iter().find(|entry| is_beginning(entry));
    let arrived = begun.map(|entry| entry.at).or_else(|| made_at(id));
    let mut recipients: Vec<RecipientView> = Vec::new();
    for entry in &own {
        for address in entry.recipient.iter().chain(&entry.recipients) {
            if !recipients.iter().any(|known| known.address == *address) {
                recipients.push(unknown(address));
            }
        }
        let address = entry.recipient.as_deref();
        let known = recipients
            .iter_mut()
            .find(|known| Some(known.address.as_str()) == address);
        if let Some(recipient) = known {
            go_on(recipient, entry);
        }
    }
    let sender = own.iter().find_map(|entry| entry.sender.clone());
    Some(MessageDetail {
        message: MessageView {
            id: id.to_string(),
            sender: sender.unwrap_or_else(|| "<>".to_owned()),
            size: begun.and_then(|entry| entry.size).unwrap_or_default(),
            arrived: arrived.unwrap_or_default(),
            user: own.iter().find_map(|entry| entry.user.clone()),
            // The history does not say.
            priority: 0,
            recipients,
        },
        client: begun.and_then(|entry| entry.client.clone()),
        dsn_of: begun.and_then(|entry| entry.of).map(|of| of.to_string()),
        // The history does not say.
        requiretls: false,
        headers: None,
        blocked_by: Vec::new(),
    })
}

fn is_beginning(entry: &Entry) -> bool {
    matches!(entry.event.as_str(), "message_accepted" | "dsn_queued")
}

/// The id says so where the entry of the arrival is too old to be there.
fn made_at(id: QueueId) -> Option<Timestamp> {
    let milliseconds = i64::try_from(id.unix_ms()).ok()?;
    Timestamp::from_millisecond(milliseconds).ok()
}

fn unknown(address: &str) -> RecipientView {
    RecipientView {
        address: address.to_owned(),
        state: State::Queued.word().to_owned(),
        attempts: 0,
        next_attempt: None,
        expires: None,
        last_attempt: None,
        last_reply: None,
        rule: None,
        category: None,
        host: None,
        route: None,
        history: Vec::new(),
        advice: None,
    }
}

/// What this entry made of the recipient.
fn go_on(recipient: &mut RecipientView, entry: &Entry) {
    let state = match entry.event.as_str() {
        "recipient_delivered" => State::Delivered,
        "recipient_deferred" => State::Deferred,
        "recipient_bounced" => State::Bounced,
        "recipient_held" => State::Held,
        "recipient_discarded" => State::Discarded,
        "recipient_released" if recipient.attempts == 0 => State::Queued,
        "recipient_released" => State::Deferred,
        _ => return,
    };
    recipient.state = state.word().to_owned();
    let Some((attempt, reply)) = attempt(entry) else {
        return;
    };
    recipient.attempts += u32::from(attempt.rule != OPERATOR);
    recipient.last_attempt = Some(attempt.at);
    recipient.last_reply = Some(reply);
    recipient.rule = Some(attempt.rule.clone());
    recipient.category = Some(attempt.category.clone());
    recipient.host.clone_from(&attempt.host);
    recipient.history.push(attempt);
}

fn attempt(entry: &Entry) -> Option<(AttemptView, String)> {
    let reply = entry.reply.clone()?;
    let attempt = AttemptView {
        at: entry.at,
        host: entry.host.clone(),
        tls: entry.tls.clone(),
        phase: entry.phase?.word().to_owned(),
        reply: reply.clone(),
        category: entry.category.clone()?,
        action: entry.action.clone()?,
        rule: entry.rule.clone()?,
    };
    Some((attempt, reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_put_together_from_what_happened_to_it() {
        let text = r#"
{"at":"2026-11-22T16:00:00.000Z","event":"message_accepted","id":"3f7k9q2mxt4p","sender":"app@x.test","recipients":["a@example.com","b@example.com"],"recipients_total":2,"size":2000,"client":"127.0.0.1","user":"billing"}
{"at":"2026-11-22T16:00:01.000Z","event":"recipient_deferred","id":"3f7k9q2mxt4p","recipient":"a@example.com","host":"mx.example.com [192.0.2.7]","phase":"rcpt","reply":"450 4.7.1 later","rule":"greylisted","category":"greylisted","action":"wait_hint"}
{"at":"2026-11-22T16:00:02.000Z","event":"recipient_bounced","id":"3f7k9q2mxt4p","recipient":"b@example.com","phase":"dns","reply":"given up","rule":"operator","category":"operator","action":"bounce"}
{"at":"2026-11-22T16:00:02.000Z","event":"dsn_queued","id":"3f7k9q2mxt5q","of":"3f7k9q2mxt4p","recipient":"app@x.test"}
{"at":"2026-11-22T16:01:00.000Z","event":"recipient_delivered","id":"3f7k9q2mxt4p","recipient":"a@example.com","host":"mx.example.com [192.0.2.7]","phase":"body","reply":"250 ok","rule":"accepted","category":"success","action":"ok"}
"#;
        let entries: Vec<Entry> = text
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let detail = detail("3f7k9q2mxt4p".parse().unwrap(), &entries).unwrap();
        let message = &detail.message;
        assert_eq!(
            (message.sender.as_str(), message.size),
            ("app@x.test", 2000)
        );
        let rows: Vec<_> = message
            .recipients
            .iter()
            .map(|r| {
                (
                    r.address.as_str(),
                    r.state.as_str(),
                    r.attempts,
                    r.history.len(),
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                ("a@example.com", "delivered", 2, 2),
                ("b@example.com", "bounced", 0, 1)
            ]
        );
        let report = super::detail("3f7k9q2mxt5q".parse().unwrap(), &entries).unwrap();
        assert_eq!(report.dsn_of.as_deref(), Some("3f7k9q2mxt4p"));
        assert_eq!(report.message.recipients[0].address, "app@x.test");
        assert!(super::detail(QueueId::from_u64(1), &entries).is_none());
    }
}

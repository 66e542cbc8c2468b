//! The model of the queue: what survives a restart of the relay, and nothing else.

use std::collections::BTreeMap;

use jiff::Timestamp;
use relay_smtp::QueueId;

use crate::fact::Key;

/// A message.
#[derive(Clone, Debug)]
pub struct Mail {
    pub arrived: Timestamp,
    pub deadline: Timestamp,
    pub sender: usize,
    /// Which of its mail: a mailing, or receipts.
    pub stream: usize,
    pub bytes: u64,
    pub recipients: Vec<Recipient>,
}

#[derive(Clone, Debug)]
pub struct Recipient {
    pub hop: usize,
    /// Which mailbox there: greylists know it again.
    pub mailbox: u32,
    pub attempts: u32,
    pub end: End,
}

/// Where a recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// None yet; due again then.
    Due(Timestamp),
    Delivered,
    /// Said by a peer.
    Bounced,
    /// Too old.
    Expired,
    /// An operator's word.
    Discarded,
}

impl End {
    pub fn is_final(self) -> bool {
        match self {
            End::Due(_) => false,
            End::Delivered | End::Bounced | End::Expired | End::Discarded => true,
        }
    }
}

/// All messages, the finished ones too.
#[derive(Debug, Default)]
pub struct Store {
    pub mails: BTreeMap<QueueId, Mail>,
    last: Option<QueueId>,
}

impl Store {
    pub fn accept(&mut self, now: Timestamp, mail: Mail) -> QueueId {
        let milliseconds = u64::try_from(now.as_millisecond()).unwrap();
        let fresh = QueueId::first_of(milliseconds, 0);
        let id = self.last.map_or(fresh, |last| fresh.max(last.next()));
        self.last = Some(id);
        self.mails.insert(id, mail);
        id
    }

    pub fn mail(&self, id: QueueId) -> &Mail {
        &self.mails[&id]
    }

    pub fn recipient(&self, id: QueueId, index: u32) -> &Recipient {
        &self.mails[&id].recipients[index as usize]
    }

    /// The recipients of a job that are due by then.
    pub fn due(&self, key: Key, by: Timestamp) -> Vec<u32> {
        let recipients = (0..).zip(&self.mail(key.0).recipients);
        recipients
            .filter(|(_, recipient)| recipient.hop == key.1)
            .filter(|(_, recipient)| matches!(recipient.end, End::Due(at) if at <= by))
            .map(|(index, _)| index)
            .collect()
    }

    /// When the first recipient of a job is due.
    pub fn due_again(&self, key: Key) -> Option<Timestamp> {
        let recipients = self.mail(key.0).recipients.iter();
        recipients
            .filter(|recipient| recipient.hop == key.1)
            .filter_map(|recipient| match recipient.end {
                End::Due(at) => Some(at),
                End::Delivered | End::Bounced | End::Expired | End::Discarded => None,
            })
            .min()
    }

    /// The next hops of a message that have recipients to be tried, each with the first due time.
    pub fn hops(&self, id: QueueId) -> BTreeMap<usize, Timestamp> {
        let recipients = self.mail(id).recipients.iter();
        let hops: std::collections::BTreeSet<usize> = recipients.map(|r| r.hop).collect();
        hops.into_iter()
            .filter_map(|hop| Some((hop, self.due_again((id, hop))?)))
            .collect()
    }

    /// One write. A final state stays; times are kept to the millisecond, as on disk.
    pub fn write(&mut self, id: QueueId, ends: &[(u32, End)]) {
        let Some(mail) = self.mails.get_mut(&id) else {
            return;
        };
        for &(index, end) in ends {
            let recipient = &mut mail.recipients[index as usize];
            if recipient.end.is_final() {
                continue;
            }
            recipient.attempts += 1;
            recipient.end = match end {
                End::Due(at) => End::Due(Timestamp::from_millisecond(at.as_millisecond()).unwrap()),
                End::Delivered | End::Bounced | End::Expired | End::Discarded => end,
            };
        }
    }

    pub fn unfinished(&self) -> Vec<QueueId> {
        let open = |mail: &Mail| mail.recipients.iter().any(|r| !r.end.is_final());
        let mails = self.mails.iter();
        mails
            .filter(|(_, mail)| open(mail))
            .map(|(&id, _)| id)
            .collect()
    }
}

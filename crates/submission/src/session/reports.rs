//! Mail to the addresses of `[reports]`: read at once, before its 250, and not queued. What is no report that can
//! be read goes on to a person, or is refused: the other side then still has it.

use relay_queue::{NewMessage, StoreError};
use relay_smtp::envelope::Recipient;
use relay_smtp::server::reply;
use relay_smtp::verp::Template;
use relay_smtp::{Mailbox, Reply};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Driver, refusal_of};
use crate::world::{CameBack, Understood, World};

/// A report is a few kilobytes, and the message that it returns. One with more is for a person.
const READ_MAX: u64 = 10 << 20;

/// What is left of a message whose recipients may be addresses of reports.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, handed on at once"
)]
pub(super) enum Rest {
    /// To be queued: it was no report, or has other recipients, or a person must read it.
    Queue(NewMessage),
    /// It had no other recipient.
    Nothing,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<'_, S> {
    pub(super) fn is_for_reports(&self, recipient: &Mailbox) -> bool {
        let reports = &self.settings.reports;
        let made_here = |template: &Template| template.read(recipient).is_some();
        let mut addresses = reports.addresses.iter();
        addresses.any(|address| is_at(address, recipient))
            || reports.verp.as_ref().is_some_and(made_here)
    }

    /// Takes the report, if it is one. Err: the answer to the client.
    pub(super) async fn take_report(&mut self, mut new: NewMessage) -> Result<Rest, Reply> {
        let all = std::mem::take(&mut new.envelope.recipients);
        let is_report = |one: &Recipient| self.is_for_reports(&one.mailbox);
        let (to_reports, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_report);
        new.envelope.recipients = others;
        let to = to_reports.iter().map(|one| one.mailbox.clone()).collect();
        let Some(first) = to_reports.into_iter().next() else {
            return Ok(Rest::Queue(new));
        };
        let why = match understand(self.world, &new, to)
            .await
            .map_err(|error| refusal_of(&error))?
        {
            Understood::Yes => {
                return Ok(match new.envelope.recipients.is_empty() {
                    true => Rest::Nothing,
                    false => Rest::Queue(new),
                });
            }
            Understood::Later(why) => {
                tracing::warn!("a report is taken later: {why}");
                return Err(reply(451, 3, 0, "the report cannot be taken now"));
            }
            Understood::No(why) => why,
        };
        let Some(person) = &self.settings.reports.unread_to else {
            let text = format!("no report that can be read here: {why}");
            return Err(reply(554, 6, 0, text));
        };
        tracing::info!(id = %new.id, to = %person, "no report that can be read, it goes to a person: {why}");
        let mailbox = person.clone();
        new.envelope.recipients.push(Recipient { mailbox, ..first });
        Ok(Rest::Queue(new))
    }
}

async fn understand(
    world: &World,
    new: &NewMessage,
    to: Vec<Mailbox>,
) -> Result<Understood, StoreError> {
    let Some(reports) = &world.reports else {
        return Ok(Understood::No("nobody reads reports".to_owned()));
    };
    if new.body.len() > READ_MAX {
        return Ok(Understood::No("it is too large".to_owned()));
    }
    let message = new.body.whole().await?;
    Ok(reports.take(CameBack { message, to }).await)
}

/// Also with something behind a plus, which tells reports apart (RFC 5233).
fn is_at(address: &Mailbox, recipient: &Mailbox) -> bool {
    let same = |local: &str| local.eq_ignore_ascii_case(address.local_part());
    let local = recipient.local_part();
    let bare = local.split_once('+').map(|(bare, _)| bare);
    let host = recipient.host().to_ascii();
    host.eq_ignore_ascii_case(&address.host().to_ascii()) && (same(local) || bare.is_some_and(same))
}

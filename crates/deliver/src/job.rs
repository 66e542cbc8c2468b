//! What a dispatch is about: the message, its due recipients, and the bytes that go on the wire.

use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use relay_config::EffectiveLimits;
use relay_message::dsn::ORIGINAL_BYTES_MAX;
use relay_message::header;
use relay_policy::TlsRequirement;
use relay_queue::{Body, Message, State, StoreError};
use relay_schedule::SiteNews;
use relay_schedule::{Dispatch, Reach, Report, SourceChoice};
use relay_smtp::client::Transaction;
use relay_smtp::envelope::{Recipient, RequireTls, Ret};
use relay_smtp::{Host, NextHop, QueueId};

use crate::guard::{Wants, Wish};
use crate::next_hop::next_hop;
use crate::prepared::Prepared;
use crate::world::{Settings, World};

/// One message and its recipients that are due by way of one next hop.
pub(crate) struct Job {
    pub message: Arc<Message>,
    pub body: Body,
    /// Its start, to where the header ends.
    pub head: Bytes,
    pub hop: NextHop,
    /// Never empty as loaded; without those that are suppressed afterwards.
    pub due: Vec<u32>,
    /// Recipients in one transaction, as far as the scheduler knows.
    pub recipients_max: u32,
    /// Transactions in one connection, likewise.
    pub messages_max: u32,
    /// Which local addresses the scheduler allows.
    pub sources: SourceChoice,
    /// Whether hosts that are known to be dead are tried, too.
    pub reach: Reach,
}

/// Which recipients a dispatch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those due by the dispatch's time.
    Due,
    /// All that are not settled: their time is over.
    All,
}

impl Job {
    /// Err: there is nothing to be done, and this is the report.
    pub async fn load(
        world: &World,
        settings: &Settings,
        dispatch: &Dispatch,
        which: Which,
    ) -> Result<Job, Report> {
        let Dispatch {
            id,
            hop,
            as_of,
            recipients_max,
            messages_max,
            sources,
            reach,
        } = dispatch;
        let message = match world.store.message(*id).await {
            Ok(Some(message)) if !message.finished() => message,
            // Delivered, deleted or bounced by others meanwhile.
            Ok(_) => return Err(nothing(*id, None)),
            Err(error) => return Err(unreadable(world, *id, &error.to_string())),
        };
        let open: Vec<(u32, Timestamp)> = message
            .each()
            .filter(|(_, _, state)| matches!(state.state, State::Queued | State::Deferred))
            .filter(|(index, recipient, _)| {
                next_hop(&settings.config, &message, *index, recipient) == *hop
            })
            .map(|(index, _, state)| (index, state.next_attempt))
            .collect();
        let due: Vec<u32> = open
            .iter()
            .filter(|(_, at)| which == Which::All || at <= as_of)
            .map(|(index, _)| *index)
            .collect();
        if due.is_empty() {
            let next = open.iter().map(|(_, at)| *at).min();
            return Err(nothing(*id, next));
        }
        let body = match world.store.body(*id).await {
            Ok(Some(body)) => body,
            Ok(None) => return Err(unreadable(world, *id, "its body is not there")),
            Err(error) => return Err(unreadable(world, *id, &error.to_string())),
        };
        let head = match head_of(&body).await {
            Ok(head) => head,
            Err(error) => return Err(unreadable(world, *id, &error.to_string())),
        };
        Ok(Job {
            message,
            body,
            head,
            hop: hop.clone(),
            due,
            recipients_max: *recipients_max,
            messages_max: *messages_max,
            sources: sources.clone(),
            reach: *reach,
        })
    }

    /// What a DSN may need of the message. More than the header it needs only where the sender wants
    /// all of it back, and it is not too large for that.
    pub async fn start(&self) -> Bytes {
        let full = self.message.envelope.ret == Some(Ret::Full);
        if !full || self.body.len() > ORIGINAL_BYTES_MAX as u64 {
            return self.head.clone();
        }
        // Of one that cannot be read, the header is better than no report.
        let whole = self.body.whole().await;
        whole.unwrap_or_else(|_| self.head.clone())
    }

    /// One recipient of the envelope.
    pub fn recipient(&self, index: u32) -> Option<&Recipient> {
        let place = usize::try_from(index).ok()?;
        self.message.envelope.recipients.get(place)
    }

    /// The domain of the next hop; None: an address, or a relay for many domains.
    pub fn hop_domain(&self) -> Option<String> {
        match &self.hop {
            NextHop::Domain(domain) => Some(domain.to_ascii()),
            NextHop::Address(_) | NextHop::Relay(_) => None,
        }
    }

    /// The domain of one recipient, in A-labels.
    pub fn domain(&self, index: u32) -> Option<String> {
        match self.recipient(index)?.mailbox.host() {
            Host::Domain(domain) => Some(domain.to_ascii()),
            Host::Address(_) => None,
        }
    }

    /// What it asks of a connection with this host.
    pub fn wants(&self, settings: &Settings, host: &str) -> Wants {
        Wants {
            hop: self.hop.clone(),
            requirement: self.requirement(settings, host),
            wish: self.wish(),
        }
    }

    /// What its author says of TLS. Only a single field with the one value there is counts.
    fn wish(&self) -> Wish {
        // It goes before the field (RFC 8689 sections 3 and 4.1).
        if self.message.envelope.require_tls == RequireTls::Yes {
            return Wish::Required;
        }
        let mut fields = header::fields(&self.head).filter(|field| field.is("TLS-Required"));
        let value = match (fields.next(), fields.next()) {
            (Some(field), None) => field.unfolded(),
            (None | Some(_), _) => return Wish::Protected,
        };
        match value.trim().eq_ignore_ascii_case("no") {
            true => Wish::Delivered,
            false => Wish::Protected,
        }
    }

    /// What TLS a session with this host must have for this next hop.
    fn requirement(&self, settings: &Settings, host: &str) -> TlsRequirement {
        match &self.hop {
            // A relay without a route is one that an operator has rerouted mail to.
            NextHop::Relay(name) => match settings.config.route(name) {
                Some(route) => route.tls,
                None => self.limits(settings, host).tls,
            },
            NextHop::Domain(_) | NextHop::Address(_) => self.limits(settings, host).tls,
        }
    }

    pub fn limits(&self, settings: &Settings, host: &str) -> EffectiveLimits {
        let domain = self.hop_domain();
        let provider = settings.table.provider_of(Some(host), domain.as_deref());
        settings
            .config
            .limits_for(domain.as_deref(), provider.map(AsRef::as_ref), &[host])
    }

    /// The envelope of one transaction.
    pub fn transaction(&self, prepared: &Prepared, recipients: &[u32]) -> Transaction {
        let envelope = &self.message.envelope;
        Transaction {
            reverse_path: envelope.reverse_path.clone(),
            recipients: recipients
                .iter()
                .filter_map(|index| self.recipient(*index).cloned())
                .collect(),
            size: prepared.size,
            body_type: prepared.body_type,
            utf8: prepared.utf8,
            require_tls: envelope.require_tls,
            priority: envelope.priority,
            ret: envelope.ret,
            envid: envelope.envid.clone(),
        }
    }
}

/// Nearly every header ends within so many bytes.
const HEAD_USUAL: usize = 64 << 10;
/// No header that came over SMTP is longer (`submission` refuses them). One that came in otherwise is taken
/// to end here, for what is read out of it; it is not signed rightly then, but arrives whole.
const HEAD_MAX: usize = 2 << 20;

async fn head_of(body: &Body) -> Result<Bytes, StoreError> {
    for bytes_max in [HEAD_USUAL, HEAD_MAX] {
        let start = body.start(bytes_max).await?;
        if let Some(end) = header::end_within(&start) {
            return Ok(start.slice(..end.body));
        }
        if start.len() as u64 == body.len() {
            return Ok(start.slice(..header::end(&start).body));
        }
    }
    body.start(HEAD_MAX).await
}

fn nothing(id: QueueId, due_again: Option<Timestamp>) -> Report {
    Report {
        id,
        due_again,
        site: SiteNews::Neutral,
    }
}

/// How long a message that the queue cannot give out is left alone.
const UNREADABLE_PAUSE: SignedDuration = SignedDuration::from_mins(5);

pub(crate) fn unreadable(world: &World, id: QueueId, error: &str) -> Report {
    tracing::error!(%id, "the queue does not give the message out, trying again later: {error}");
    let again = world.clock.now().checked_add(UNREADABLE_PAUSE);
    nothing(id, Some(again.unwrap_or(Timestamp::MAX)))
}

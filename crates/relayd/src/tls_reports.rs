//! TLS reports (RFC 8460): joins the counting, the daily sending and the queue.

use std::sync::Arc;

use relay_admin::TlsReports;
use relay_admin::view::{TlsFailureView, TlsReportView};
use relay_config::{Config, TlsRptUse};
use relay_deliver::Delivery;
use relay_https::Https;
use relay_observe::{Clock, Event, Events};
use relay_queue::{Arrival, NewMessage, Store};
use relay_route::Resolver;
use relay_smtp::envelope::{BodyType, Envelope, Recipient, RequireTls, Utf8};
use relay_smtp::{QueueId, ReversePath};
use relay_tlsrpt::report::Submitter;
use relay_tlsrpt::{
    Days, HttpsPost, Letter, Outbox, Overview, Planned, Recorder, Reporter, Settings,
};

use crate::wire::StartError;

/// What is counted and where it lies. None: no reports are wanted.
pub struct Kept {
    recorder: Recorder,
    days: Days,
}

/// The day's files, in the state directory.
pub async fn open(config: &Config) -> Result<Option<Kept>, StartError> {
    if config.tls_rpt.enabled == TlsRptUse::Off {
        return Ok(None);
    }
    let dir = config.state.dir.join("tls-rpt");
    let shown = dir.display().to_string();
    let open = move || {
        let days = Days::open(&dir)?;
        let recorder = Recorder::start(days.clone())?;
        Ok(Kept { recorder, days })
    };
    match tokio::task::spawn_blocking(open).await {
        Ok(Ok(kept)) => Ok(Some(kept)),
        Ok(Err(error)) => {
            let error: std::io::Error = error;
            Err(StartError::Configuration(format!("{shown}: {error}")))
        }
        Err(error) => Err(StartError::System(format!("TLS reports: {error}"))),
    }
}

/// What the sending of reports needs of the rest.
pub struct Parts {
    pub clock: Clock,
    pub events: Events,
    pub resolver: Arc<dyn Resolver>,
    pub https: Arc<Https>,
    pub store: Arc<dyn Store>,
    pub delivery: Delivery,
}

/// Returns who tells operators of them. Ends with the runtime: what has been sent is on disk at any time.
pub fn send_daily(config: &Config, days: Days, parts: Parts) -> TlsReports {
    let reporter = Reporter {
        days,
        settings: Settings {
            submitter: Submitter {
                hostname: config.hostname.clone(),
                organization: config.tls_rpt.organization.clone(),
                contact: config.tls_rpt.contact.clone(),
            },
            from: config.tls_rpt.from.clone(),
            spread: config.tls_rpt.spread,
        },
        clock: parts.clock,
        events: parts.events.clone(),
        resolver: parts.resolver,
        post: Arc::new(HttpsPost::new(parts.https)),
        outbox: Arc::new(ToQueue {
            clock: parts.clock,
            events: parts.events,
            store: parts.store,
            delivery: parts.delivery,
        }),
        planned: Planned::default(),
    };
    let overviews = reporter.overviews();
    tokio::spawn(reporter.run());
    Box::new(move || {
        let overviews = overviews.clone();
        Box::pin(async move {
            let all = overviews.list().await;
            let all = all.map_err(|error| format!("TLS reports: {error}"))?;
            Ok(all.into_iter().map(view).collect())
        })
    })
}

fn view(of: Overview) -> TlsReportView {
    let failures = of.failures.iter().map(|(result, sessions)| TlsFailureView {
        result: result.word().to_owned(),
        sessions: *sessions,
    });
    TlsReportView {
        day: of.day.to_string(),
        domain: of.domain,
        policies: of
            .policies
            .iter()
            .map(|kind| kind.word().to_owned())
            .collect(),
        successful: of.successful,
        failed: of.failures.values().sum(),
        failures: failures.collect(),
        sent_to: of.sent_to.into_iter().collect(),
        next_attempt: of.next,
    }
}

impl Kept {
    /// The recorder goes to the sessions, the days to whoever sends the reports.
    pub fn apart(self) -> (Recorder, Days) {
        (self.recorder, self.days)
    }
}

struct ToQueue {
    clock: Clock,
    events: Events,
    store: Arc<dyn Store>,
    delivery: Delivery,
}

impl ToQueue {
    async fn accept(&self, letter: Letter) -> Result<(), String> {
        let id = self.store.next_id();
        let size = letter.message.len() as u64;
        let recipient = letter.to.to_string();
        let message = self.store.accept(self.message(id, letter)).await;
        let message = message.map_err(|error| error.to_string())?;
        self.events.emit(Event::MessageAccepted {
            id,
            client: None,
            user: None,
            sender: "<>".to_owned(),
            recipients: vec![recipient],
            size,
        });
        self.delivery.enqueue(message).await;
        Ok(())
    }

    fn message(&self, id: QueueId, letter: Letter) -> NewMessage {
        let utf8 = match letter.message.is_ascii() {
            true => (BodyType::SevenBit, Utf8::NotNeeded),
            // An address of the operator's, or of the domain's.
            false => (BodyType::EightBitMime, Utf8::Required),
        };
        NewMessage {
            id,
            envelope: Envelope {
                reverse_path: ReversePath::Null,
                recipients: vec![Recipient::plain(letter.to)],
                body_type: utf8.0,
                utf8: utf8.1,
                require_tls: RequireTls::No,
                priority: Default::default(),
                ret: None,
                envid: None,
            },
            arrival: Arrival {
                at: self.clock.now(),
                client: None,
                user: None,
                dsn_of: None,
            },
            body: letter.message.into(),
        }
    }
}

impl Outbox for ToQueue {
    fn send(&self, letter: Letter) -> relay_tlsrpt::Posting<'_> {
        Box::pin(self.accept(letter))
    }
}

//! One log line an event, and where the lines go: text for people and journald, JSON for machines.
//!
//! What strangers say (replies, names, addresses) is a quoted field, never part of the message, so
//! that no reply can write a line of its own.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use tracing::{Level, Subscriber, debug, error, info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format as Inner, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::event::Event;

/// `[log] format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal and for journald, else JSON.
    Auto,
    Text,
    Json,
}

/// Starts the log on standard error; once in a program. A level that does not parse is `info`:
/// [`check_level`] has refused it before.
pub fn init(format: Format, level: &str) {
    let filter = || EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter());
    let terminal = std::io::stderr().is_terminal();
    // Where a subscriber is set already, as in a test, it stays.
    let _ = match (format, journald_reads_stderr(), terminal) {
        (Format::Json, _, _) | (Format::Auto, false, false) => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        (Format::Auto | Format::Text, true, _) => builder
            .with_ansi(false)
            .event_format(ForJournald(Inner::default().without_time()))
            .try_init(),
        (Format::Auto, false, true) | (Format::Text, false, _) => {
            builder.with_ansi(terminal).try_init()
        }
    };
}

/// Whether `[log] level` can be understood; Err says what is wrong and the fix.
pub fn check_level(level: &str) -> Result<(), String> {
    EnvFilter::try_new(level)
        .map(|_| ())
        .map_err(|error| format!("not a level ({error}); write error, warn, info, debug or trace"))
}

/// JOURNAL_STREAM names the device and inode of journald's socket (systemd.exec(5)); a program that
/// has been given another standard error inherits it all the same.
fn journald_reads_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// Errors of this target are alerts; tracing has no such level.
const ALERT: &str = "relayd::alert";

/// journald has its own clock, and takes the priority from the front of the line (sd-daemon(3)).
struct ForJournald(Inner<Full, ()>);

impl<S, N> FormatEvent<S, N> for ForJournald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            // "Action must be taken immediately" (syslog(3)).
            Level::ERROR if event.metadata().target() == ALERT => 1,
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

/// Writes the line of an event: a table, one entry each. Levels: error, somebody must come; warn,
/// somebody should look; info, what became of mail; debug, how.
pub(crate) fn line(event: &Event) {
    match event {
        Event::ClientConnected { client } => {
            debug!(target: "relayd", event = "client_connected", %client, "client connected");
        }
        Event::ClientRefused { client, reason } => {
            info!(target: "relayd", event = "client_refused", %client, reason, "client refused");
        }
        Event::ClientAuthenticated { client, user } => {
            info!(target: "relayd", event = "client_authenticated", %client, user, "logged in");
        }
        Event::AuthFailed { client, user } => {
            warn!(target: "relayd", event = "auth_failed", %client, user, "login failed");
        }
        Event::CommandRefused { client, reply } => {
            info!(target: "relayd", event = "command_refused", %client, reply, "command refused");
        }
        Event::MessageAccepted {
            id,
            client,
            user,
            sender,
            recipients,
            size,
        } => {
            let client = client.map(tracing::field::display);
            let (user, recipients) = (user.as_deref(), recipients.len());
            info!(target: "relayd", event = "message_accepted", %id, client, user, sender, recipients,
                size, "accepted");
        }
        Event::ClientGoneBeforeReply { id, client } => {
            warn!(target: "relayd", event = "client_gone_before_reply", %id, %client,
                "accepted, but the client left before it heard so; it may send the message again");
        }
        Event::SessionOpened {
            site,
            host,
            address,
            tls,
        } => {
            let tls = tls.as_deref();
            debug!(target: "relayd", event = "session_opened", site, host, %address, tls,
                "session opened");
        }
        Event::SessionFailed {
            site,
            host,
            phase,
            what,
            rule,
            category,
            action,
        } => {
            info!(target: "relayd", event = "session_failed", site, host, %phase, what, rule,
                category, action, "session failed");
        }
        Event::SessionClosed {
            site,
            host,
            messages,
        } => {
            debug!(target: "relayd", event = "session_closed", site, host, messages,
                "session closed");
        }
        Event::RecipientDelivered {
            id,
            recipient,
            tried,
            age,
            attempts,
        } => {
            let (host, tls) = (tried.host.as_deref(), tried.tls.as_deref());
            let (reply, age) = (&tried.reply, age.as_secs_f64());
            info!(target: "relayd", event = "recipient_delivered", %id, recipient, host, tls, reply,
                age, attempts, "delivered");
        }
        Event::RecipientDeferred {
            id,
            recipient,
            tried,
            until,
        } => {
            let (host, phase) = (tried.host.as_deref(), tried.phase);
            let (reply, rule, category) = (&tried.reply, &tried.rule, &tried.category);
            info!(target: "relayd", event = "recipient_deferred", %id, recipient, host, %phase, reply,
                rule, category, %until, "deferred");
        }
        Event::RecipientBounced {
            id,
            recipient,
            tried,
        } => {
            let (host, phase) = (tried.host.as_deref(), tried.phase);
            let (reply, rule, category) = (&tried.reply, &tried.rule, &tried.category);
            info!(target: "relayd", event = "recipient_bounced", %id, recipient, host, %phase, reply,
                rule, category, "bounced");
        }
        Event::RecipientHeld {
            id,
            recipient,
            tried,
        } => {
            let (rule, reply) = (&tried.rule, &tried.reply);
            warn!(target: "relayd", event = "recipient_held", %id, recipient, rule, reply,
                "held until an operator releases it");
        }
        Event::RecipientReleased {
            id,
            sender,
            recipient,
        } => {
            info!(target: "relayd", event = "recipient_released", %id, sender, recipient,
                "released by an operator");
        }
        Event::RecipientRerouted {
            id,
            sender,
            recipient,
            route,
        } => {
            let route = route.as_deref().unwrap_or("as configured");
            info!(target: "relayd", event = "recipient_rerouted", %id, sender, recipient, route,
                "sent another way by an operator");
        }
        Event::RecipientDiscarded {
            id,
            sender,
            recipient,
        } => {
            info!(target: "relayd", event = "recipient_discarded", %id, sender, recipient,
                "deleted by an operator");
        }
        Event::DsnQueued { id, of, to } => {
            info!(target: "relayd", event = "dsn_queued", %id, %of, to, "report to the sender");
        }
        Event::DsnNotSent { of, recipient } => {
            info!(target: "relayd", event = "dsn_not_sent", %of, recipient,
                "no report: the message has no sender");
        }
        Event::TlsReportSent {
            domain,
            to,
            good,
            failed,
        } => {
            info!(target: "relayd", event = "tls_report_sent", domain, to, good, failed,
                "a domain was told of its TLS");
        }
        Event::TlsReportNotSent { domain, to, reason } => {
            info!(target: "relayd", event = "tls_report_not_sent", domain, to, reason,
                "a TLS report is tried again later");
        }
        Event::SuppressionAdded {
            recipient,
            source,
            rule,
            category,
            expires,
        } => {
            let (rule, category) = (rule.as_deref(), category.as_deref());
            let expires = expires.map(tracing::field::display);
            info!(target: "relayd", event = "suppression_added", recipient, source, rule, category,
                expires, "not to be tried again");
        }
        Event::ReportReceived {
            id,
            recipient,
            kind,
            reply,
            rule,
        } => {
            info!(target: "relayd", event = "report_received", %id, recipient, kind = kind.word(),
                reply, rule, "a report came back");
        }
        Event::SuppressionRemoved { recipient } => {
            info!(target: "relayd", event = "suppression_removed", recipient,
                "no longer suppressed");
        }
        Event::SiteSlowed { site, rule, until } => {
            warn!(target: "relayd", event = "site_slowed", site, rule, %until, "site slowed down");
        }
        Event::SiteSuspended { site, rule, until } => {
            warn!(target: "relayd", event = "site_suspended", site, rule, %until, "site suspended");
        }
        Event::SiteResumed { site } => {
            info!(target: "relayd", event = "site_resumed", site, "site resumed");
        }
        Event::SourceSuspended {
            site,
            source,
            rule,
            until,
        } => {
            warn!(target: "relayd", event = "source_suspended", site, %source, rule, %until,
                "source address suspended at the site");
        }
        Event::SourceResumed { site, source } => {
            info!(target: "relayd", event = "source_resumed", site, %source,
                "source address resumed at the site");
        }
        Event::Alert {
            site,
            rule,
            category,
            reply,
            fix,
        } => {
            warn!(target: "relayd", event = "alert", site, rule, category, reply, fix,
                "a person should look");
        }
        Event::Flushed { messages } => {
            info!(target: "relayd", event = "flushed", messages, "flushed by an operator");
        }
        Event::QueueRecovered {
            messages,
            records,
            truncated_bytes,
            took,
        } => {
            let took = took.as_secs_f64();
            info!(target: "relayd", event = "queue_recovered", messages, records, truncated_bytes,
                took, "queue recovered");
        }
        Event::RecordQuarantined {
            file,
            offset,
            reason,
        } => {
            error!(target: "relayd", event = "record_quarantined", file, offset, reason,
                "damaged record set aside");
        }
        Event::BodyUnreadable { id, file, reason } => {
            error!(target: "relayd", event = "body_unreadable", %id, file, reason,
                "the body of a message cannot be read; it stays in the queue");
        }
        Event::IndexRebuilt { reason } => {
            warn!(target: "relayd", event = "index_rebuilt", reason,
                "index made anew from the journal");
        }
        Event::IndexFrozen { reason } => {
            error!(target: "relayd", event = "index_frozen", reason,
                "the queue's index cannot be written; new mail is refused until it can");
        }
        Event::QueueStopped { reason } => {
            error!(target: ALERT, event = "queue_stopped", reason,
                "the queue takes no more mail; relayd ends and recovers when it is started again");
        }
        Event::OutcomeUnwritten { id, reason } => {
            error!(target: "relayd", event = "outcome_unwritten", %id, reason,
                "what became of a message could not be written down; it is sent once more");
        }
        Event::HistoryLost { events } => {
            error!(target: "relayd", event = "history_lost", events,
                "events are missing in the history: its disk did not keep up");
        }
        Event::Started { version, hostname } => {
            info!(target: "relayd", event = "started", version, hostname, "ready");
        }
        Event::Listening { address } => {
            info!(target: "relayd", event = "listening", address, "listening");
        }
        Event::Reloaded => {
            info!(target: "relayd", event = "reloaded", "configuration reloaded");
        }
        Event::ReloadRefused { error } => {
            error!(target: "relayd", event = "reload_refused", error,
                "reload refused; the old configuration stays");
        }
        Event::Stopping { sessions } => {
            info!(target: "relayd", event = "stopping", sessions, "stopping");
        }
        Event::Stopped => {
            info!(target: "relayd", event = "stopped", "stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::event::tests::every_event;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(kept: &Kept) -> String {
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    /// What an event leaves in the log as JSON.
    fn json_line(event: &Event) -> String {
        let kept = Kept::default();
        let sink = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || sink.clone())
            .with_max_level(Level::TRACE)
            .json()
            .flatten_event(true)
            .finish();
        tracing::subscriber::with_default(subscriber, || line(event));
        written(&kept)
    }

    #[test]
    fn every_event_has_one_line_with_its_name() {
        for event in every_event() {
            let text = json_line(&event);
            assert_eq!(text.lines().count(), 1, "{event:?}: {text}");
            let debug = format!("{event:?}");
            let variant = debug.split([' ', '{']).next().unwrap();
            let mut name = String::new();
            for letter in variant.chars() {
                if letter.is_uppercase() && !name.is_empty() {
                    name.push('_');
                }
                name.push(letter.to_ascii_lowercase());
            }
            assert!(text.contains(&format!("\"event\":\"{name}\"")), "{text}");
        }
    }

    #[test]
    fn a_reply_cannot_write_a_line_of_its_own() {
        let kept = Kept::default();
        let sink = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || sink.clone())
            .with_ansi(false)
            .event_format(ForJournald(Inner::default().without_time()))
            .finish();
        let delivered = every_event()
            .into_iter()
            .find(|event| matches!(event, Event::RecipientDelivered { .. }));
        tracing::subscriber::with_default(subscriber, || line(&delivered.unwrap()));
        let text = written(&kept);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("<6>"), "{text}");
        assert!(text.contains("age=2.5"), "{text}");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(check_level("info").is_ok());
        assert!(check_level("warn,relay_deliver=debug").is_ok());
        assert!(check_level("relay_deliver=loud").is_err());
    }

    #[test]
    fn a_stopped_queue_is_an_alert_to_journald() {
        let kept = Kept::default();
        let sink = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || sink.clone())
            .with_ansi(false)
            .event_format(ForJournald(Inner::default().without_time()))
            .finish();
        let reason = "fdatasync".to_owned();
        tracing::subscriber::with_default(subscriber, || line(&Event::QueueStopped { reason }));
        assert!(written(&kept).starts_with("<1>"));
    }
}

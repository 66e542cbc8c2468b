//! What is told about one reply: as an object for scripts, as lines for people.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay_policy::{
    Action, Context, Decision, Fate, Near, Next, OnFlow, Schedule, Stimulus, Table, TlsInUse,
    decide, enhanced_at, guard, near, parse_pasted,
};
use relay_smtp::{Phase, Reply};
use serde::{Deserialize, Serialize};

pub(super) fn answer_line(table: &Table, line: &str) -> Result<Answer, String> {
    let question: Question = serde_json::from_str(line)
        .map_err(|error| format!("{error}; write an object such as {{\"reply\": \"550 5.1.1 No such user\", \"phase\": \"rcpt\"}}"))?;
    answer(table, &question).map(|(answer, _)| answer)
}

/// One line of a batch.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    pub reply: String,
    pub phase: Option<String>,
    pub provider: Option<String>,
    pub mx: Option<String>,
    pub to: Option<String>,
    #[serde(default)]
    pub accepted_before: u32,
    #[serde(default)]
    pub tls: bool,
}

/// One line of output. Keys stay as they are: scripts rely on them.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub category: &'static str,
    pub action: &'static str,
    pub rule: String,
    pub place: String,
    /// Seconds until the next try, without jitter; 0: at once; null: there is none.
    pub retry_after: Option<u64>,
    pub explain: Option<String>,
    pub fix: Option<String>,
    pub code: u16,
    pub enhanced: Option<String>,
    /// Where it stands: start, repeated (after a repeated basic code or in a later line), text.
    pub enhanced_at: Option<&'static str>,
    pub provider: Option<String>,
    /// Whether the address is not tried again for later messages either.
    pub suppress: bool,
    pub phase: &'static str,
    pub fate: &'static str,
    /// What a DSN would say.
    pub status: String,
    pub schedule: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub error: String,
    pub line: usize,
}

/// One reply, with all that stands behind its decision.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    #[serde(flatten)]
    answer: Answer,
    /// What keeps the address from being suppressed, where the rule would.
    guard: Option<GuardRow>,
    /// The rules that nearly took it.
    near: Vec<NearRow>,
    #[serde(skip)]
    decision: Decision,
}

#[derive(Debug, Serialize)]
struct GuardRow {
    name: String,
    place: String,
    explain: Option<String>,
}

#[derive(Debug, Serialize)]
struct NearRow {
    rule: String,
    place: String,
    category: &'static str,
    /// The key of the matcher that failed; `place`: all hold, and an earlier rule decided.
    missed: &'static str,
    why: String,
}

/// More than these would hide the telling ones.
const NEAR_SHOWN: usize = 5;

pub(super) fn tell(table: &Table, question: &Question) -> Result<Told, String> {
    let asked = Asked::of(table, question)?;
    let context = asked.context(question);
    let near = near(table, &asked.reply, &context, NEAR_SHOWN);
    let (answer, decision) = asked.decide(table, &context);
    let guard = guard(table, &asked.reply, &context).map(|guard| GuardRow {
        name: guard.name.clone(),
        place: guard.place.clone(),
        explain: guard.explain.clone(),
    });
    Ok(Told {
        answer,
        guard,
        near: near.into_iter().map(NearRow::of).collect(),
        decision,
    })
}

pub(super) fn answer(table: &Table, question: &Question) -> Result<(Answer, Decision), String> {
    let asked = Asked::of(table, question)?;
    Ok(asked.decide(table, &asked.context(question)))
}

/// A question, read.
struct Asked<'q> {
    reply: Reply,
    phase: Phase,
    provider: Option<&'q str>,
}

impl<'q> Asked<'q> {
    fn of(table: &Table, question: &'q Question) -> Result<Asked<'q>, String> {
        Ok(Asked {
            reply: parse_pasted(&question.reply)?,
            // A missing phase counts as rcpt, where most replies that anyone asks about were given.
            phase: match question.phase.as_deref() {
                None | Some("") => Phase::Rcpt,
                Some(word) => parse_phase(word)?,
            },
            provider: question
                .provider
                .as_deref()
                .filter(|name| table.knows_provider(name)),
        })
    }

    fn context(&self, question: &'q Question) -> Context<'q> {
        Context {
            provider: self.provider,
            mx: question.mx.as_deref(),
            domain: question.to.as_deref(),
            accepted_before: question.accepted_before,
            tls: if question.tls {
                TlsInUse::Yes
            } else {
                TlsInUse::No
            },
            now: Some(Timestamp::now()),
            ..Context::of(self.phase)
        }
    }

    fn decide(&self, table: &Table, context: &Context<'_>) -> (Answer, Decision) {
        let decision = decide(table, Stimulus::Reply(&self.reply), context);
        (describe(&self.reply, self.phase, &decision), decision)
    }
}

impl NearRow {
    fn of(near: Near) -> NearRow {
        NearRow {
            rule: near.rule.name.clone(),
            place: near.rule.place.clone(),
            category: near.category.word(),
            missed: near.missed.word(),
            why: near.missed.to_string(),
        }
    }
}

impl Told {
    pub fn for_people(&self, now: Timestamp) -> String {
        let mut text = for_people(&self.answer, &self.decision, now);
        if let Some(guard) = &self.guard {
            let why = guard.explain.as_deref().unwrap_or("by a guard");
            let _ = writeln!(
                text,
                "guard     {} ({}): not suppressed. {why}",
                guard.name, guard.place
            );
        }
        for (number, row) in self.near.iter().enumerate() {
            let key = if number == 0 { "near" } else { "" };
            let _ = writeln!(
                text,
                "{key:9} {} ({}, {}): {}",
                row.rule, row.category, row.place, row.why
            );
        }
        text
    }
}

pub(super) fn describe(reply: &Reply, phase: Phase, decision: &Decision) -> Answer {
    let rule = &decision.rule;
    let found = enhanced_at(reply);
    Answer {
        category: decision.category.word(),
        action: decision.action.word(),
        rule: rule.name.clone(),
        place: rule.place.clone(),
        retry_after: retry_after(decision),
        explain: rule.explain.clone(),
        fix: rule.fix.clone(),
        code: reply.code,
        enhanced: found.map(|(code, _)| code.to_string()),
        enhanced_at: found.map(|(_, at)| at.word()),
        provider: decision.provider.as_deref().map(str::to_owned),
        suppress: decision.action == Action::BounceSuppress,
        phase: phase.word(),
        fate: fate_word(decision.fate),
        status: decision.status.to_string(),
        schedule: schedule_name(decision).to_owned(),
    }
}

fn retry_after(decision: &Decision) -> Option<u64> {
    match decision.fate {
        Fate::Delivered | Fate::Bounced | Fate::Held => None,
        Fate::AgainNow => Some(0),
        Fate::Deferred => {
            let first = || {
                schedule(decision)
                    .steps
                    .first()
                    .copied()
                    .unwrap_or_default()
            };
            Some(decision.recipient_waits().unwrap_or_else(first).as_secs())
        }
    }
}

fn fate_word(fate: Fate) -> &'static str {
    match fate {
        Fate::Delivered => "delivered",
        Fate::Deferred => "deferred",
        Fate::AgainNow => "again-now",
        Fate::Bounced => "bounced",
        Fate::Held => "held",
    }
}

/// The built-in schedule of the rule's name; a configured one is known to the daemon only.
fn schedule(decision: &Decision) -> Schedule {
    let name = schedule_name(decision);
    Schedule::built_in()
        .into_iter()
        .find(|(built_in, _)| *built_in == name)
        .map_or_else(Schedule::standard, |(_, schedule)| schedule)
}

fn schedule_name(decision: &Decision) -> &str {
    decision.rule.retry.as_deref().unwrap_or("default")
}

pub(super) fn for_people(answer: &Answer, decision: &Decision, now: Timestamp) -> String {
    let mut text = String::new();
    let enhanced = match &answer.enhanced {
        Some(code) => {
            let at = match answer.enhanced_at {
                Some("repeated") => ", after a repeated basic code",
                Some("text") => ", found inside the text",
                Some(_) | None => "",
            };
            format!("enhanced code {code}{at}")
        }
        None => "no enhanced code".to_owned(),
    };
    let rows = [
        ("category", answer.category.to_owned()),
        (
            "action",
            format!("{}: {}", answer.action, meaning(decision)),
        ),
        ("rule", format!("{} ({})", answer.rule, answer.place)),
        ("reply", format!("{}, {enhanced}", answer.code)),
        ("phase", answer.phase.to_owned()),
        (
            "provider",
            answer
                .provider
                .clone()
                .unwrap_or_else(|| "none known".to_owned()),
        ),
    ];
    let optional = [("why", &answer.explain), ("fix", &answer.fix)];
    let optional = optional
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.clone()?)));
    let mut next = vec![("next", next_steps(answer, decision, now))];
    next.extend(others(decision, now).map(|what| ("others", what)));
    for (key, value) in rows.into_iter().chain(optional).chain(next) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key:9} {value}");
    }
    text
}

/// What the action means for the recipient and for others, in one line.
fn meaning(decision: &Decision) -> &'static str {
    match (decision.action, decision.fate) {
        (Action::Ok, _) => "accepted",
        (Action::Defer, _) => "tried again on the schedule",
        (Action::WaitHint, _) if decision.wait.is_some() => {
            "tried again at the time the reply names, from the same address"
        }
        (Action::WaitHint, _) => "tried again on the schedule, from the same address",
        (Action::NextMx, _) => "the next host is tried at once; if there is none, on the schedule",
        (Action::NewTransaction, _) => {
            "tried again at once in a new transaction; the limit is learned"
        }
        (Action::RetryTls, _) => "tried again at once with TLS",
        (Action::RetryPlain, _) => {
            "tried again at once without TLS, if the TLS requirement allows it"
        }
        (Action::Slow, _) => {
            "tried again on the schedule; the site gets half the rate and connections for a while"
        }
        (Action::SuspendSource, _) => "tried again later; this source address pauses for this site",
        (Action::SuspendDestination, _) => "tried again later; the site pauses",
        (Action::Bounce, _) => "bounced; the sender gets a report",
        (Action::BounceSuppress, _) => {
            "bounced; the sender gets a report, and the address is not tried again"
        }
        (Action::Alert, Fate::Bounced) => {
            "bounced, and the operator is alerted; the address is not at fault"
        }
        (Action::Alert, _) => "tried again on the schedule, and the operator is alerted",
        (Action::Hold, _) => "kept until an operator releases it",
    }
}

fn next_steps(answer: &Answer, decision: &Decision, now: Timestamp) -> String {
    match decision.fate {
        Fate::Delivered => "nothing; the recipient is done".to_owned(),
        Fate::Held => "nothing until it is released".to_owned(),
        Fate::Bounced => format!(
            "a report with status {} goes to the sender now",
            answer.status
        ),
        Fate::AgainNow => format!("at once; if that does not help: {}", tries(decision, now)),
        Fate::Deferred => tries(decision, now),
    }
}

/// What other mail for the site meets in the meantime.
fn others(decision: &Decision, now: Timestamp) -> Option<String> {
    let until = SignedDuration::try_from(decision.wait?).ok()?;
    let until = now.checked_add(until).ok()?;
    match decision.action.on_flow() {
        OnFlow::Slow => Some(format!(
            "half the rate and connections for the site until {until:.0}, then more step by step"
        )),
        OnFlow::SuspendSource => Some(format!(
            "nothing goes from this source address to the site until {until:.0}"
        )),
        OnFlow::SuspendDestination => Some(format!("nothing goes to the site until {until:.0}")),
        OnFlow::Nothing => None,
    }
}

/// The coming tries for a message that arrived just now, as the built-in schedule has them, without jitter.
fn tries(decision: &Decision, now: Timestamp) -> String {
    let schedule = Schedule {
        jitter: 0.0,
        ..schedule(decision)
    };
    let give_up = decision.rule.give_up_after;
    let mut text = String::new();
    let (mut at, mut hint) = (now, decision.recipient_waits());
    for attempt in 1..=3 {
        match schedule.next(now, at, attempt, hint.take(), give_up, &mut rand::rng()) {
            Next::At(due) => {
                let after = Duration::try_from(due.duration_since(now)).unwrap_or_default();
                let _ = write!(text, "{} ({due:.0}), ", short(after));
                at = due;
            }
            Next::LastAt(_) | Next::Expired => break,
        }
    }
    let last = give_up.map_or(schedule.max_age, |cap| cap.min(schedule.max_age));
    let end = SignedDuration::try_from(last).ok();
    let end = end.and_then(|last| now.checked_add(last).ok());
    let end = end.map_or_else(String::new, |end| format!(" ({end:.0})"));
    let _ = write!(
        text,
        "... last try after {}{end}, then it bounces",
        short(last)
    );
    text
}

/// `90m` as `1h30m`.
fn short(wait: Duration) -> String {
    let seconds = wait.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds % 86_400 / 3600, "h"),
        (seconds % 3600 / 60, "m"),
        (seconds % 60, "s"),
    ];
    let text: String = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// The phase's word, or one that other programs use for it.
pub(super) fn parse_phase(word: &str) -> Result<Phase, String> {
    // Of `starttls/auth` the first is taken.
    let word = word.split('/').next().unwrap_or(word);
    match word {
        "helo" | "help" => Ok(Phase::Ehlo),
        "data-end" | "data_end" | "end-of-data" | "eod" | "dot" => Ok(Phase::Body),
        "vrfy" | "expn" => Ok(Phase::Rcpt),
        "rset" => Ok(Phase::Quit),
        word => word.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str) -> Result<Answer, String> {
        answer_line(&Table::default_table(), line)
    }

    #[test]
    fn a_batch_line_gets_category_action_rule_place_and_retry_time() {
        let answer =
            ask(r#"{"reply": "451 4.7.1 Greylisted, try again in 300 seconds", "phase": "rcpt"}"#)
                .unwrap();
        assert_eq!(
            (answer.category, answer.action),
            ("greylisted", "wait_hint")
        );
        assert_eq!(answer.retry_after, Some(300));
        assert!(
            answer.place.starts_with("etc/policy.toml:"),
            "{}",
            answer.place
        );
        assert!(!answer.suppress);
    }

    #[test]
    fn an_unknown_provider_counts_as_none_and_a_missing_phase_as_rcpt() {
        let answer =
            ask(r#"{"reply": "550 5.1.1 User unknown", "provider": "no-such-provider"}"#).unwrap();
        assert_eq!((answer.phase, answer.provider.as_deref()), ("rcpt", None));
        assert!(answer.suppress);
        let answer =
            ask(r#"{"reply": "250 ok", "provider": "google", "phase": "data-end"}"#).unwrap();
        assert_eq!(
            (answer.phase, answer.provider.as_deref()),
            ("body", Some("google"))
        );
    }

    #[test]
    fn the_provider_is_found_from_host_or_domain() {
        let answer = ask(r#"{"reply": "550 no", "mx": "aspmx.l.google.com."}"#).unwrap();
        assert_eq!(answer.provider.as_deref(), Some("google"));
        let answer = ask(r#"{"reply": "550 no", "to": "GMAIL.com"}"#).unwrap();
        assert_eq!(answer.provider.as_deref(), Some("google"));
    }

    #[test]
    fn a_bad_line_is_answered_with_what_is_wrong() {
        assert!(ask("not json").unwrap_err().contains("write an object"));
        assert!(
            ask(r#"{"reply": "hello"}"#)
                .unwrap_err()
                .contains("reply code")
        );
        assert!(
            ask(r#"{"reply": "550 no", "phase": "lunch"}"#)
                .unwrap_err()
                .contains("lunch")
        );
    }

    #[test]
    fn the_text_for_people_says_why_and_what_comes_next() {
        let table = Table::default_table();
        let question: Question =
            serde_json::from_str(r#"{"reply": "450 4.2.0 Greylisted for 300 seconds"}"#).unwrap();
        let (answer, decision) = answer(&table, &question).unwrap();
        let text = for_people(&answer, &decision, Timestamp::UNIX_EPOCH);
        assert!(
            text.contains("wait_hint") && text.contains("1970-01-01T00:05:00Z"),
            "{text}"
        );
        assert!(
            text.contains("last try after 5d (1970-01-06T00:00:00Z)"),
            "{text}"
        );
    }

    #[test]
    fn the_rules_that_nearly_took_a_reply_are_named_with_what_they_missed() {
        let question: Question = serde_json::from_str(
            r#"{"reply": "550 no mailbox here by that name (#5.1.1)", "phase": "body"}"#,
        )
        .unwrap();
        let told = tell(&Table::default_table(), &question).unwrap();
        assert_eq!(told.answer.enhanced_at, Some("text"));
        assert!(!told.near.is_empty() && told.near.len() <= NEAR_SHOWN);
        let text = told.for_people(Timestamp::UNIX_EPOCH);
        assert!(text.contains("found inside the text"), "{text}");
        assert!(text.contains("\nnear      "), "{text}");
    }

    #[test]
    fn a_suspension_is_told_with_its_end() {
        let question: Question =
            serde_json::from_str(r#"{"reply": "554 blocked using zen.spamhaus.org"}"#).unwrap();
        let told = tell(&Table::default_table(), &question).unwrap();
        let text = told.for_people(Timestamp::UNIX_EPOCH);
        assert!(
            text.contains("others    nothing goes from this source address to the site until 1970-01-01T02:00:00Z"),
            "{text}"
        );
    }
}

//! The decision: exactly one place says what a reply or a failure leads to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use relay_smtp::{EnhancedStatus, Failure, Phase, Reply};

use crate::category::Category;
use crate::guard::Guard;
use crate::hint::hint;
use crate::input::Input;
use crate::memory::Memory;
use crate::status::{of_failure, status};
use crate::table::{CompiledRule, Table};

/// What came in.
#[derive(Clone, Copy, Debug)]
pub enum Stimulus<'a> {
    Reply(&'a Reply),
    Failure(Failure),
}

/// Where it came in.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub phase: Phase,
    /// The provider by name, where the caller knows it (`policy test --provider`); else it is found
    /// from `mx` and `domain`.
    pub provider: Option<&'a str>,
    /// The name of the host we speak with.
    pub mx: Option<&'a str>,
    /// The recipient's domain, in A-labels.
    pub domain: Option<&'a str>,
    /// How many RCPTs of this transaction were accepted before this reply: 552 counts as 452 only
    /// after an accepted one (RFC 5321 section 4.5.3.1.10).
    pub accepted_before: u32,
    /// Whether the session is encrypted at this point.
    pub tls: TlsInUse,
    /// What time it is, for texts that name a point in time; None: such texts count as naming none.
    pub now: Option<Timestamp>,
}

impl<'a> Context<'a> {
    /// A context that knows the phase only.
    pub fn of(phase: Phase) -> Context<'a> {
        Context {
            phase,
            provider: None,
            mx: None,
            domain: None,
            accepted_before: 0,
            tls: TlsInUse::No,
            now: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsInUse {
    Yes,
    No,
}

impl TlsInUse {
    /// The word in rules.
    pub fn word(self) -> &'static str {
        match self {
            TlsInUse::Yes => "yes",
            TlsInUse::No => "no",
        }
    }
}

/// What to do, in one word; what it means for the recipient, the attempt and the flow stands in
/// docs/policy.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Ok,
    Defer,
    WaitHint,
    NextMx,
    NewTransaction,
    RetryTls,
    RetryPlain,
    Slow,
    SuspendSource,
    SuspendDestination,
    Bounce,
    BounceSuppress,
    Alert,
    Hold,
}

impl Action {
    pub const ALL: [Action; 14] = [
        Action::Ok,
        Action::Defer,
        Action::WaitHint,
        Action::NextMx,
        Action::NewTransaction,
        Action::RetryTls,
        Action::RetryPlain,
        Action::Slow,
        Action::SuspendSource,
        Action::SuspendDestination,
        Action::Bounce,
        Action::BounceSuppress,
        Action::Alert,
        Action::Hold,
    ];

    /// The word in rules, logs and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Action::Ok => "ok",
            Action::Defer => "defer",
            Action::WaitHint => "wait_hint",
            Action::NextMx => "next_mx",
            Action::NewTransaction => "new_transaction",
            Action::RetryTls => "retry_tls",
            Action::RetryPlain => "retry_plain",
            Action::Slow => "slow",
            Action::SuspendSource => "suspend_source",
            Action::SuspendDestination => "suspend_destination",
            Action::Bounce => "bounce",
            Action::BounceSuppress => "bounce_suppress",
            Action::Alert => "alert",
            Action::Hold => "hold",
        }
    }
}

/// What an action does to the flow of mail to the site: the third of its three levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFlow {
    Nothing,
    /// Rate and connections are halved.
    Slow,
    SuspendSource,
    SuspendDestination,
}

impl Action {
    pub fn on_flow(self) -> OnFlow {
        match self {
            Action::Slow => OnFlow::Slow,
            Action::SuspendSource => OnFlow::SuspendSource,
            Action::SuspendDestination => OnFlow::SuspendDestination,
            Action::Ok
            | Action::Defer
            | Action::WaitHint
            | Action::NextMx
            | Action::NewTransaction
            | Action::RetryTls
            | Action::RetryPlain
            | Action::Bounce
            | Action::BounceSuppress
            | Action::Alert
            | Action::Hold => OnFlow::Nothing,
        }
    }

    /// Whether a rule with this action must say for how long: all that touches the flow ends by itself.
    pub(crate) fn needs_time(self) -> bool {
        self.on_flow() != OnFlow::Nothing
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What stands behind a decision: the rule, as the operator knows it. Shared by all decisions it makes.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: String,
    /// `etc/policy.toml:123`, for people.
    pub place: String,
    pub explain: Option<String>,
    pub fix: Option<String>,
    /// The named retry schedule; None: `default`.
    pub retry: Option<String>,
    /// A recipient that is still deferred by this rule this long after arrival is bounced.
    pub give_up_after: Option<Duration>,
}

/// The answer of the table. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub action: Action,
    pub category: Category,
    pub rule: Arc<Rule>,
    /// `wait_hint`: the clamped time found in the text, None where there was none (then the
    /// schedule's). `slow`, `suspend_*`: the rule's `for`. `bounce_suppress`: how long the address
    /// stays suppressed, None where the configuration says.
    pub wait: Option<Duration>,
    /// What a DSN says in Status: the reply's enhanced code with the class that fits the decision,
    /// or the one that fits the failure or category (RFC 3463).
    pub status: EnhancedStatus,
    /// The provider the table found, if any.
    pub provider: Option<Arc<str>>,
    /// What this means for the recipient; `alert` bounces after 5xx and defers after 4xx and failures.
    pub fate: Fate,
}

impl Decision {
    /// The least time that the recipient waits for its next try; None: its schedule alone says when. Under
    /// `slow` its site takes mail all the while, only less of it: the recipient need not sit that out.
    pub fn recipient_waits(&self) -> Option<Duration> {
        match self.action {
            Action::WaitHint | Action::SuspendSource | Action::SuspendDestination => self.wait,
            Action::Ok
            | Action::Defer
            | Action::NextMx
            | Action::NewTransaction
            | Action::RetryTls
            | Action::RetryPlain
            | Action::Slow
            | Action::Bounce
            | Action::BounceSuppress
            | Action::Alert
            | Action::Hold => None,
        }
    }
}

/// What a decision means for the recipient: the first of its three levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    /// Due again later: by the schedule, not before [`Decision::recipient_waits`] is over.
    Deferred,
    /// Due again at once, in a new transaction or on the next host.
    AgainNow,
    Bounced,
    Held,
}

/// Decides. Total: every stimulus in every context has an answer.
pub fn decide(table: &Table, stimulus: Stimulus<'_>, context: &Context<'_>) -> Decision {
    let provider = table.provider_in(context);
    match stimulus {
        Stimulus::Reply(reply) => {
            let mut memory = Memory::take();
            let input = Input::in_memory(reply, std::mem::take(&mut memory.text));
            let taken = table.match_reply(&input, context, provider, &mut memory);
            let digit = input.digit();
            let action = match taken.guard {
                Some(_) => Some(Action::Bounce),
                None => taken.rule.actions.of_digit(digit),
            };
            // A rule is only taken for the classes it has an action for.
            let action = at_phase(action.unwrap_or(Action::Defer), context.phase);
            let decision = Answer {
                table,
                taken: taken.rule,
                provider,
                action,
                said: said(digit, context.phase),
                text: &input.text,
                now: context.now,
                enhanced: input.enhanced,
            }
            .decision();
            memory.text = input.text;
            memory.keep();
            decision
        }
        Stimulus::Failure(failure) => {
            let taken = table.match_failure(failure, context, provider);
            Answer {
                table,
                taken,
                provider,
                action: taken.actions.of_failure().unwrap_or(Action::Defer),
                said: Said::Transient,
                text: "",
                now: None,
                enhanced: of_failure(failure),
            }
            .decision()
        }
    }
}

/// A host that greets with "not now" has not been told of any mail: it speaks of itself, and another host of
/// the domain may be well, whatever the rule that knows the words says of a recipient.
fn at_phase(action: Action, phase: Phase) -> Action {
    match (action, phase) {
        (Action::Defer, Phase::Banner | Phase::Ehlo) => Action::NextMx,
        (Action::Bounce | Action::BounceSuppress, Phase::Auth) => Action::Alert,
        (other, _) => other,
    }
}

/// A refused login says nothing of any message, and a new password lets all of them through: no mail is
/// bounced for it before its time, though the code is 535.
fn said(digit: u8, phase: Phase) -> Said {
    match (digit, phase) {
        (_, Phase::Auth) => Said::Transient,
        (5, _) => Said::Permanent,
        _ => Said::Transient,
    }
}

/// What in a reply keeps its rule from suppressing the address; None: nothing does, or the rule would not anyway.
pub fn guard<'t>(table: &'t Table, reply: &Reply, context: &Context<'_>) -> Option<&'t Guard> {
    let provider = table.provider_in(context);
    table
        .match_reply(&Input::of(reply), context, provider, &mut Memory::default())
        .guard
}

/// Whether the other side said 5yz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Permanent,
    Transient,
}

struct Answer<'a> {
    table: &'a Table,
    taken: &'a CompiledRule,
    provider: Option<usize>,
    action: Action,
    said: Said,
    text: &'a str,
    now: Option<Timestamp>,
    enhanced: Option<EnhancedStatus>,
}

impl Answer<'_> {
    fn decision(self) -> Decision {
        let fate = fate(self.action, self.said);
        let wait = match self.action {
            Action::WaitHint => hint(self.text, self.now),
            Action::Slow
            | Action::SuspendSource
            | Action::SuspendDestination
            | Action::BounceSuppress => self.taken.wait,
            Action::Ok
            | Action::Defer
            | Action::NextMx
            | Action::NewTransaction
            | Action::RetryTls
            | Action::RetryPlain
            | Action::Bounce
            | Action::Alert
            | Action::Hold => None,
        };
        Decision {
            action: self.action,
            category: self.taken.category,
            rule: self.taken.rule.clone(),
            wait,
            status: status(self.taken.category, fate, self.enhanced),
            provider: self.provider.and_then(|at| self.table.provider_name(at)),
            fate,
        }
    }
}

/// The first level of an action. Only `alert` looks at the class: 5yz bounces, 4yz defers.
fn fate(action: Action, said: Said) -> Fate {
    match action {
        Action::Ok => Fate::Delivered,
        Action::Defer
        | Action::WaitHint
        | Action::Slow
        | Action::SuspendSource
        | Action::SuspendDestination => Fate::Deferred,
        Action::NextMx | Action::NewTransaction | Action::RetryTls | Action::RetryPlain => {
            Fate::AgainNow
        }
        Action::Bounce | Action::BounceSuppress => Fate::Bounced,
        Action::Alert => match said {
            Said::Permanent => Fate::Bounced,
            Said::Transient => Fate::Deferred,
        },
        Action::Hold => Fate::Held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(phase: Phase, code: u16, text: &str) -> (Action, Fate) {
        let reply = Reply::new(code, None, text);
        let table = Table::default_table();
        let decision = decide(&table, Stimulus::Reply(&reply), &Context::of(phase));
        (decision.action, decision.fate)
    }

    #[test]
    fn a_host_that_cannot_now_before_mail_leads_to_the_next_whatever_its_words() {
        for phase in [Phase::Banner, Phase::Ehlo] {
            for text in ["4.3.0 local problem", "4.2.2 out of space", ""] {
                let decided = decided(phase, 451, text);
                assert_eq!(decided, (Action::NextMx, Fate::AgainNow), "{phase} {text}");
            }
        }
        let at_rcpt = decided(Phase::Rcpt, 451, "4.3.0 local problem");
        assert_eq!(at_rcpt, (Action::Defer, Fate::Deferred));
    }

    #[test]
    fn no_message_is_bounced_for_a_refused_login() {
        for (code, text) in [
            (535, "5.7.8 authentication failed"),
            (535, ""),
            (550, "5.1.1 no such user"),
            (454, "4.7.0 temporary authentication failure"),
        ] {
            let (_, fate) = decided(Phase::Auth, code, text);
            assert_eq!(fate, Fate::Deferred, "{code} {text}");
        }
    }
}

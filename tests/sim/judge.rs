//! The real policy table and the real retry clock; decisions are remembered, since a simulation says
//! the same few things a million times.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use relay_policy::{
    Context, Decision, Fate, Next, OnFlow, Schedule, Stimulus, Table, decide, parse_pasted,
};
use relay_smtp::Phase;

use crate::mx::Said;
use crate::store::{End, Mail};

/// Compiling it takes longer than a whole week.
static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| Arc::new(Table::default_table()));

pub struct Judge {
    table: Arc<Table>,
    schedules: HashMap<&'static str, Schedule>,
    remembered: HashMap<(Phase, Said, u32), Decision>,
}

/// What a decision means for the flow to the site.
pub enum Flow {
    Slow(Duration),
    Suspend(Duration),
}

impl Judge {
    pub fn new() -> Judge {
        Judge {
            table: Arc::clone(&TABLE),
            schedules: Schedule::built_in().into_iter().collect(),
            remembered: HashMap::new(),
        }
    }

    pub fn decide(&mut self, phase: Phase, said: &Said, accepted_before: u32) -> Decision {
        let table = &self.table;
        let context = Context {
            accepted_before,
            ..Context::of(phase)
        };
        self.remembered
            .entry((phase, said.clone(), accepted_before))
            .or_insert_with(|| match said {
                Said::Reply(words) => {
                    let reply = parse_pasted(words).unwrap();
                    decide(table, Stimulus::Reply(&reply), &context)
                }
                Said::Failure(failure) => decide(table, Stimulus::Failure(*failure), &context),
            })
            .clone()
    }

    /// The new state of a recipient that was tried for the `attempts`-th time.
    pub fn end(
        &self,
        decision: &Decision,
        mail: &Mail,
        attempts: u32,
        now: Timestamp,
        rng: &mut StdRng,
    ) -> End {
        match decision.fate {
            Fate::Delivered => End::Delivered,
            Fate::Bounced | Fate::Held => End::Bounced,
            Fate::Deferred | Fate::AgainNow => {
                let name = decision.rule.retry.as_deref().unwrap_or("default");
                let schedule = &self.schedules[name];
                let give_up = decision.rule.give_up_after;
                match schedule.next(
                    mail.arrived,
                    now,
                    attempts,
                    decision.recipient_waits(),
                    give_up,
                    rng,
                ) {
                    Next::At(at) | Next::LastAt(at) => End::Due(at),
                    Next::Expired => End::Expired,
                }
            }
        }
    }

    /// The longest of the schedules, as the dispatcher takes it.
    pub fn age_max(&self) -> Duration {
        let ages = self.schedules.values().map(|schedule| schedule.max_age);
        ages.max().unwrap()
    }
}

pub fn flow(decision: &Decision) -> Option<Flow> {
    let wait = decision.wait.unwrap_or(Duration::from_secs(900));
    match decision.action.on_flow() {
        OnFlow::Slow => Some(Flow::Slow(wait)),
        OnFlow::SuspendSource | OnFlow::SuspendDestination => Some(Flow::Suspend(wait)),
        OnFlow::Nothing => None,
    }
}

//! What a session tells while it carries a message out: the dispatcher of the flow, the operator of what
//! happened.

use std::net::IpAddr;

use relay_observe::Event;
use relay_policy::{Action, Decision};

use super::Carrier;
use super::one_try::Try;
use crate::judge::flow;
use crate::link::{Flow, FromSession};
use crate::open::{Peer, Refusal};
use crate::settle::Said;

impl Carrier {
    /// Tells the dispatcher of the flow, and the operator of alerts: once for each rule.
    pub(super) async fn tell(
        &mut self,
        attempt: &mut Try,
        decision: &Decision,
        said: &Said,
        source: Option<IpAddr>,
    ) {
        let alert = matches!(decision.action, Action::Alert | Action::Hold)
            || relay_policy::scope::rule(&decision.rule.name).is_some();
        let flow = flow(decision, source);
        if (flow.is_none() && !alert) || attempt.told.contains(&decision.rule.name) {
            return;
        }
        attempt.told.push(decision.rule.name.clone());
        if alert {
            self.world.events.emit(Event::Alert {
                site: self.site.0.to_string(),
                rule: decision.rule.name.clone(),
                category: decision.category.to_string(),
                reply: said.text(),
                fix: decision.rule.fix.clone().unwrap_or_default(),
            });
        }
        if let Some(flow) = flow {
            self.send_flow(flow).await;
        }
    }

    pub(super) async fn send_flow(&mut self, flow: Flow) {
        let site = self.site.clone();
        let flow = FromSession::Flow { site, flow };
        // The dispatcher has gone: relayd stops, and what was learned is of no more use.
        let _ = self.to_dispatcher.send(flow).await;
    }

    /// Says QUIT and closes.
    pub async fn close(&mut self, peer: Peer) {
        self.closed(&peer);
        peer.wire.quit().await;
    }

    /// The session is over, by whomever.
    pub fn closed(&self, peer: &Peer) {
        self.world.events.emit(Event::SessionClosed {
            site: self.site.0.to_string(),
            host: peer.host.clone(),
            messages: peer.messages,
        });
    }

    pub(super) fn emit_opened(&self, peer: &Peer) {
        self.world.events.emit(Event::SessionOpened {
            site: self.site.0.to_string(),
            host: peer.host.clone(),
            address: peer.address,
            tls: peer.tls.clone(),
        });
    }

    pub(super) fn emit_failed(&self, host: &str, refusal: &Refusal, decision: &Decision) {
        self.world.events.emit(Event::SessionFailed {
            site: self.site.0.to_string(),
            host: refusal.host.clone().unwrap_or_else(|| host.to_owned()),
            phase: refusal.phase,
            what: refusal.said.text(),
            rule: decision.rule.name.clone(),
            category: decision.category.to_string(),
            action: decision.action.to_string(),
        });
    }
}

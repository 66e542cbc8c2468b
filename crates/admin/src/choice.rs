//! Who is meant by a selection: the queue's own [`Select`], and the site, which takes asking where
//! mail goes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use relay_config::Config;
use relay_deliver::next_hop;
use relay_queue::{Message, Page, RecipientState, Select, State, StoreError};
use relay_smtp::{Host, NextHop, QueueId, Recipient};
use tokio::task::JoinSet;

use crate::error::ApiError;
use crate::select::Selection;
use crate::world::AdminWorld;

/// Next hops asked for at once; most answers are at hand.
const ASKED_AT_ONCE: usize = 32;
/// Messages read at a time.
pub const PAGE: usize = 1_000;

/// A selection, ready to be held against messages.
pub struct Choice {
    select: Select,
    site: Option<Site>,
}

struct Site {
    name: String,
    config: Arc<Config>,
    /// Whether a next hop leads there, of those seen so far.
    leads_there: HashMap<NextHop, Verdict>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    There,
    Elsewhere,
}

impl Choice {
    pub fn of(world: &AdminWorld, selection: &Selection) -> Result<Choice, ApiError> {
        let site = selection.site.as_ref().map(|name| Site {
            name: name.clone(),
            config: world.config.load_full(),
            leads_there: HashMap::new(),
        });
        Ok(Choice {
            select: selection.to_select(world.clock.now())?,
            site,
        })
    }

    /// The next messages that match, oldest first, of the next `limit` or more that are looked at.
    pub async fn page(
        &mut self,
        world: &AdminWorld,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.learn_domains(world).await?;
        let mut page = world.store.list(self.select.clone(), after, limit).await?;
        self.learn_of(world, &page.messages).await;
        page.messages.retain(|message| self.matches(message));
        Ok(page)
    }

    /// Goes through all unfinished messages that match, page by page.
    pub async fn for_each(
        &mut self,
        world: &AdminWorld,
        mut look: impl FnMut(&Choice, &Message) + Send,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.page(world, after, PAGE).await?;
            for message in &page.messages {
                look(self, message);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
            tokio::task::yield_now().await;
        }
    }

    /// Those of the messages, finished ones, that would match were they still open: the queue's own
    /// selection speaks of unfinished recipients only.
    pub async fn among_finished(
        &mut self,
        world: &AdminWorld,
        mut messages: Vec<Arc<Message>>,
    ) -> Vec<Arc<Message>> {
        let reopened = |message: &Arc<Message>| {
            let mut open = Message::clone(message);
            for recipient in &mut open.recipients {
                recipient.state = State::Held;
            }
            open
        };
        // Of their domains the queue may have no recipient left, and then none of them was asked about.
        let select = Select {
            ways: None,
            ..self.select.clone()
        };
        messages.retain(|message| select.matches(&reopened(message)));
        self.learn_of(world, &messages).await;
        messages.retain(|message| self.matches(&reopened(message)));
        messages
    }

    /// Whether this recipient of a message that matches is meant.
    pub fn matches_recipient(
        &self,
        message: &Message,
        (index, recipient, state): (u32, &Recipient, &RecipientState),
    ) -> bool {
        self.select.matches_recipient(recipient, state)
            && self.site.as_ref().is_none_or(|site| {
                let hop = next_hop(&site.config, message, index, recipient);
                site.leads_there.get(&hop) == Some(&Verdict::There)
            })
    }

    fn matches(&self, message: &Message) -> bool {
        self.site.is_none()
            || message
                .each()
                .any(|one| self.matches_recipient(message, one))
    }

    /// Finds out which of the queue's domains lead to the site. What comes in meanwhile for yet another
    /// domain is not meant: a selection is of the queue as it was.
    async fn learn_domains(&mut self, world: &AdminWorld) -> Result<(), StoreError> {
        let Some(site) = &mut self.site else {
            return Ok(());
        };
        // Asked already. Then no message is read that has no recipient in one of these domains.
        if self.select.ways.is_some() {
            return Ok(());
        }
        let mut ways = Vec::new();
        for domain in domains_of(world).await? {
            // Only what cannot be a domain at all cannot be read: there is no way to it.
            if let Ok(host) = Host::parse(&domain) {
                ways.push((domain, site.config.next_hop(&host)));
            }
        }
        site.learn(world, ways.iter().map(|(_, hop)| hop.clone()).collect())
            .await;
        ways.retain(|(_, hop)| site.leads_there.get(hop) == Some(&Verdict::There));
        let domains: BTreeSet<String> = ways.into_iter().map(|(domain, _)| domain).collect();
        self.select.ways = Some(Arc::new(domains));
        Ok(())
    }

    /// Finds out of the messages' next hops whether they lead to the site.
    async fn learn_of(&mut self, world: &AdminWorld, messages: &[Arc<Message>]) {
        let Some(site) = &mut self.site else {
            return;
        };
        let hops = messages.iter().flat_map(|message| {
            let each = message.each();
            each.map(|(index, recipient, _)| next_hop(&site.config, message, index, recipient))
        });
        let hops = hops.collect();
        site.learn(world, hops).await;
    }
}

/// The domains of all open recipients.
async fn domains_of(world: &AdminWorld) -> Result<BTreeSet<String>, StoreError> {
    let mut domains = BTreeSet::new();
    let mut after = None;
    loop {
        after = world.store.survey(after, &mut |waiting| {
            if !domains.contains(waiting.domain) {
                domains.insert(waiting.domain.to_owned());
            }
        })?;
        if after.is_none() {
            return Ok(domains);
        }
        tokio::task::yield_now().await;
    }
}

impl Site {
    async fn learn(&mut self, world: &AdminWorld, hops: Vec<NextHop>) {
        let mut unknown = hops;
        unknown.retain(|hop| !self.leads_there.contains_key(hop));
        unknown.sort_unstable();
        unknown.dedup();
        let mut asked = JoinSet::new();
        for hop in unknown {
            let dispatcher = Arc::clone(&world.dispatcher);
            asked.spawn(async move {
                let name = dispatcher.site_of(&hop).await;
                (hop, name)
            });
            if asked.len() >= ASKED_AT_ONCE {
                self.hear(asked.join_next().await);
            }
        }
        while let Some(answer) = asked.join_next().await {
            self.hear(Some(answer));
        }
    }

    /// A question that came to nothing leaves its next hop unknown, which is not a match.
    fn hear(&mut self, answer: Option<Result<(NextHop, String), tokio::task::JoinError>>) {
        if let Some(Ok((hop, name))) = answer {
            let verdict = if self.is(&name) {
                Verdict::There
            } else {
                Verdict::Elsewhere
            };
            self.leads_there.insert(hop, verdict);
        }
    }

    fn is(&self, name: &str) -> bool {
        let mut hosts = name.split(',');
        name.eq_ignore_ascii_case(&self.name)
            || hosts.any(|host| host.eq_ignore_ascii_case(&self.name))
    }
}

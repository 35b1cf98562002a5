//! Messages that need an acknowledgement: numbered without gaps, kept until the controller has them durably, and sent
//! again in every session until then.

use std::{collections::VecDeque, time::Instant};

use quell_wire::v1::{AgentMessage, agent_message::Body};

/// Above so many messages no further ones are taken; who reports waits.
pub const MOST_WAITING: usize = 2048;

/// The messages that wait.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Number of the first one.
    first: u64,
    waiting: VecDeque<Waiting>,
    /// How many of them this session has sent.
    sent: usize,
    /// Whether numbers have begun: only the controller knows where the last process stopped counting.
    begun: bool,
}

#[derive(Debug)]
struct Waiting {
    body: Body,
    since: Instant,
}

impl Outbox {
    /// Whether another message may be put in.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MOST_WAITING
    }

    /// Adds a message.
    pub fn push(&mut self, body: Body, now: Instant) {
        self.waiting.push_back(Waiting { body, since: now });
    }

    /// Whether the outcome of the order with this key waits.
    pub fn has_outcome(&self, key: &str) -> bool {
        self.waiting
            .iter()
            .any(|waiting| matches!(&waiting.body, Body::Outcome(outcome) if outcome.idempotency_key == key))
    }

    /// The number of the next message that will need one; 0 while numbers have not begun.
    pub fn next_sequence(&self) -> u64 {
        if self.begun { self.first + self.waiting.len() as u64 } else { 0 }
    }

    /// A session begins: what the controller has is forgotten, everything else will be sent again. Gives what it had.
    pub fn begin(&mut self, acknowledged: u64) -> Vec<Body> {
        self.sent = 0;
        // Below what it has seen, numbers would be taken for old ones: a process that starts, or a journal that was
        // copied, goes on from there.
        if !self.begun || acknowledged >= self.next_sequence() {
            self.begun = true;
            self.first = acknowledged.saturating_add(1);
            return Vec::new();
        }
        self.acknowledged(acknowledged)
    }

    /// The controller has everything up to this number. Gives what that was.
    pub fn acknowledged(&mut self, sequence: u64) -> Vec<Body> {
        let mut taken = Vec::new();
        while self.begun && self.first <= sequence {
            let Some(waiting) = self.waiting.pop_front() else { break };
            taken.push(waiting.body);
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
        }
        taken
    }

    /// The next message to send in this session, its ages brought up to date.
    pub fn next(&mut self, now: Instant) -> Option<AgentMessage> {
        let waiting = self.waiting.get(self.sent)?;
        let mut body = waiting.body.clone();
        if let Body::Outcome(outcome) = &mut body {
            let waited = u64::try_from(now.saturating_duration_since(waiting.since).as_millis()).unwrap_or(u64::MAX);
            outcome.age_ms = outcome.age_ms.saturating_add(waited);
        }
        let sequence = self.first + self.sent as u64;
        self.sent += 1;
        Some(AgentMessage { sequence, body: Some(body) })
    }

    /// Takes out what waits, was not sent and is not wanted any more. Numbers stay without gaps.
    pub fn retain_unsent(&mut self, wanted: impl Fn(&Body) -> bool) {
        let mut place = 0;
        let sent = self.sent;
        self.waiting.retain(|waiting| {
            place += 1;
            place <= sent || wanted(&waiting.body)
        });
    }
}

#[cfg(test)]
mod tests {
    use quell_wire::v1::{ActionStarted, Outcome};

    use super::*;

    fn started(id: &str) -> Body {
        Body::Started(ActionStarted { command_id: id.to_owned(), ..ActionStarted::default() })
    }

    fn sent(outbox: &mut Outbox) -> Vec<u64> {
        std::iter::from_fn(|| outbox.next(Instant::now())).map(|message| message.sequence).collect()
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_with_the_same_number() {
        let mut outbox = Outbox::default();
        outbox.push(started("cmd-1"), Instant::now());
        assert_eq!(outbox.next_sequence(), 0);
        assert!(outbox.begin(40).is_empty());
        outbox.push(started("cmd-2"), Instant::now());
        outbox.push(started("cmd-3"), Instant::now());
        assert_eq!(sent(&mut outbox), [41, 42, 43]);
        assert!(outbox.next(Instant::now()).is_none());
        assert_eq!(outbox.acknowledged(41), [started("cmd-1")]);
        // The connection breaks; the controller has one more than it said.
        assert_eq!(outbox.next_sequence(), 44);
        assert_eq!(outbox.begin(42), [started("cmd-2")]);
        outbox.push(started("cmd-4"), Instant::now());
        assert_eq!(sent(&mut outbox), [43, 44]);
        assert_eq!(outbox.acknowledged(99).len(), 2);
        assert_eq!(outbox.next_sequence(), 45);
    }

    #[test]
    fn a_controller_that_remembers_less_gets_what_is_left() {
        let mut outbox = Outbox::default();
        outbox.begin(0);
        outbox.push(started("cmd-1"), Instant::now());
        outbox.push(started("cmd-2"), Instant::now());
        sent(&mut outbox);
        outbox.acknowledged(1);
        assert!(outbox.begin(0).is_empty());
        assert_eq!(sent(&mut outbox), [2]);
    }

    #[test]
    fn a_controller_that_remembers_more_is_believed() {
        let mut outbox = Outbox::default();
        outbox.begin(0);
        outbox.push(started("cmd-1"), Instant::now());
        assert!(outbox.begin(7).is_empty());
        assert_eq!(sent(&mut outbox), [8]);
    }

    #[test]
    fn an_outcome_grows_older_while_it_waits() {
        let mut outbox = Outbox::default();
        outbox.begin(0);
        outbox.waiting.push_back(Waiting {
            body: Body::Outcome(Outcome { age_ms: 5, ..Outcome::default() }),
            since: Instant::now().checked_sub(std::time::Duration::from_secs(2)).unwrap(),
        });
        let Some(AgentMessage { body: Some(Body::Outcome(outcome)), .. }) = outbox.next(Instant::now()) else {
            panic!("no outcome")
        };
        assert!((2005..5000).contains(&outcome.age_ms), "{}", outcome.age_ms);
    }

    #[test]
    fn only_what_was_not_sent_can_be_taken_back() {
        let mut outbox = Outbox::default();
        outbox.begin(0);
        outbox.push(started("cmd-1"), Instant::now());
        outbox.next(Instant::now());
        outbox.push(started("cmd-2"), Instant::now());
        outbox.retain_unsent(|_| false);
        assert_eq!(outbox.next_sequence(), 2);
        assert_eq!(outbox.acknowledged(1), [started("cmd-1")]);
    }
}

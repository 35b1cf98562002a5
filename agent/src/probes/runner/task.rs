//! The life of one assigned probe.

use std::{sync::Arc, time::Duration};

use quell_model::value::Fields;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Suspended, Tail,
    cost::{Meter, Panicked, Spent, Timed},
};
use crate::probes::{Attempt, Probe, Sample, streak::Streak};

/// How long a probe that cost too much rests.
const REST: Duration = Duration::from_secs(600);

/// Fields that change by themselves or with every byte: a change of these alone is not worth a sample between two
/// that are due.
const QUIET: [&str; 9] =
    ["age", "size", "tail", "since", "latency", "cpu_percent", "rss_bytes", "failures", "successes"];

/// What a probe is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Look now.
    Now,
    /// Look this often from now on.
    Every(Duration),
    /// Give the last lines of the log.
    Tail {
        /// How many.
        lines: usize,
        /// To whom.
        answer: oneshot::Sender<Tail>,
    },
    /// Rest, because of this.
    Suspend(String),
}

/// One probe and everything that it needs.
pub(super) struct Task {
    pub(super) key: Arc<str>,
    pub(super) every: Duration,
    pub(super) timeout: Duration,
    pub(super) origin: Instant,
    pub(super) probe: Box<dyn Probe>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) samples: mpsc::Sender<Sample>,
    pub(super) suspended: Suspended,
    pub(super) spent: Spent,
}

/// Why the probe looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Due,
    Changed,
    Asked,
}

/// What happened while the probe waited.
enum Event {
    Look(Why),
    Order(Order),
    Stop,
}

impl Task {
    /// Runs until nobody gives orders or takes samples any more.
    pub(super) async fn run(mut self) {
        let mut streak = Streak::default();
        let mut last = Fields::new();
        let mut meter = Meter::new(self.spent.clone(), Instant::now());
        let mut due = Instant::now();
        loop {
            let why = match self.wait(due).await {
                Event::Look(why) => why,
                Event::Stop => return,
                Event::Order(Order::Now) => Why::Asked,
                Event::Order(Order::Every(every)) => {
                    self.every = every;
                    due = self.next_due(Instant::now());
                    continue;
                }
                Event::Order(Order::Tail { lines, answer }) => {
                    let _ = answer.send(self.probe.tail(lines).await);
                    continue;
                }
                Event::Order(Order::Suspend(reason)) => {
                    if !self.rest(reason).await {
                        return;
                    }
                    meter.reset(Instant::now());
                    continue;
                }
            };
            let (attempt, cost) = self.look().await;
            if why == Why::Due {
                due = self.next_due(Instant::now());
            }
            let mut counted = streak;
            let fields = counted.count(attempt);
            if why != Why::Changed || tells_news(&last, &fields) {
                streak = counted;
                let urgent = why != Why::Due || last.get("ok") != fields.get("ok");
                if !self.send(fields.clone(), why == Why::Changed, urgent).await {
                    return;
                }
                last = fields;
            }
            if let Some(share) = meter.charge(cost, Instant::now()) {
                let reason = format!("suspended: it used {:.0} % of a processor", share * 100.0);
                if !self.rest(reason).await {
                    return;
                }
                meter.reset(Instant::now());
            }
        }
    }

    async fn wait(&mut self, due: Instant) -> Event {
        tokio::select! {
            biased;
            order = self.orders.recv() => order.map_or(Event::Stop, Event::Order),
            () = self.probe.changed() => Event::Look(Why::Changed),
            () = tokio::time::sleep_until(due) => Event::Look(Why::Due),
        }
    }

    /// One attempt and what it cost. Kinds keep to the time-out themselves; this is for the one that would not.
    async fn look(&mut self) -> (Attempt, Duration) {
        let limit = self.timeout * 2 + Duration::from_secs(1);
        let timed = Timed::new(self.probe.attempt(self.timeout));
        let (attempt, polls) = match tokio::time::timeout(limit, timed).await {
            Ok((Ok(attempt), polls)) => (attempt, polls),
            Ok((Err(Panicked), polls)) => {
                (Attempt::not_made("the probe has a fault; the agent's log says where: please report it"), polls)
            }
            Err(_) => (Attempt::not_made(format!("the attempt did not end within {limit:?}")), Duration::ZERO),
        };
        (attempt, polls + self.probe.cost())
    }

    async fn send(&mut self, fields: Fields, pushed: bool, urgent: bool) -> bool {
        let sample = Sample { key: Arc::clone(&self.key), taken: Instant::now(), fields, pushed, urgent };
        self.samples.send(sample).await.is_ok()
    }

    /// Rests and says so; requests for the log are still answered. False: the probe is to stop.
    async fn rest(&mut self, reason: String) -> bool {
        tracing::warn!(key = %self.key, reason, "a probe is suspended");
        self.suspended.lock().insert(Arc::clone(&self.key));
        let said = Streak::default().count(Attempt::not_made(reason));
        if !self.send(said, false, true).await {
            return false;
        }
        let until = Instant::now() + REST;
        loop {
            let order = tokio::select! {
                order = self.orders.recv() => order,
                () = tokio::time::sleep_until(until) => break,
            };
            match order {
                None => return false,
                Some(Order::Tail { lines, answer }) => drop(answer.send(self.probe.tail(lines).await)),
                Some(Order::Every(every)) => self.every = every,
                Some(Order::Now | Order::Suspend(_)) => {}
            }
        }
        self.suspended.lock().remove(&self.key);
        true
    }

    /// The next moment, counted from the origin, that is a multiple of the interval.
    fn next_due(&self, now: Instant) -> Instant {
        let every = self.every.as_nanos().max(1);
        let passed = now.saturating_duration_since(self.origin).as_nanos();
        let next = (passed / every + 1).saturating_mul(every);
        self.origin + Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX / 2))
    }
}

/// Whether a sample differs from the last one in more than what always changes.
fn tells_news(last: &Fields, fields: &Fields) -> bool {
    let loud = |fields: &Fields| -> Fields {
        let loud = fields.iter().filter(|(name, _)| !QUIET.contains(&name.as_str()));
        loud.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    loud(last) != loud(fields)
}

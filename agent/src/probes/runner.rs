//! When probes look: at their interval, when something changed, and when somebody asks.
//!
//! One task for each assignment, however many policies share it. An assignment whose key stays keeps its task, its
//! streak and what it has learned; only what is new is started and only what is gone is stopped. Probes with the same
//! interval look at the same moments, so that their samples travel together. A probe that costs too much is suspended
//! for a while, and says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quell_model::probe::{ProbeKey, ProbeSpec};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Attempt, Boxed, Context, Probe, Sample, build, host::Host};
use task::{Order, Task};

mod cost;
mod task;

/// Orders that may wait for one probe; more are dropped, a probe that looks is asked once.
const ORDERS: usize = 8;

/// Samples that may wait for the session.
pub const SAMPLES: usize = 256;

/// Time-out of the host samples.
const HOST_TIMEOUT: Duration = Duration::from_secs(10);

/// Most probes of one host; what is above is not run, and says so.
pub const MOST_PROBES: usize = 500;

/// Shortest interval of a probe.
const SHORTEST: Duration = Duration::from_millis(100);

/// A probe that the controller wants to be run.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// What its samples refer to.
    pub key: Arc<str>,
    /// How often it looks.
    pub every: Duration,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// What is measured; or why the agent does not understand it.
    pub spec: Result<ProbeSpec, String>,
}

/// Why there is no tail of a log.
pub type Tail = Result<Vec<String>, String>;

/// Runs the probes of the host. Dropping it stops them.
pub struct Runner {
    context: Context,
    samples: mpsc::Sender<Sample>,
    /// Moments to look at are counted from here.
    origin: Instant,
    running: BTreeMap<Arc<str>, Running>,
    suspended: Suspended,
}

struct Running {
    orders: mpsc::Sender<Order>,
    spent: cost::Spent,
    _task: AbortOnDropHandle<()>,
}

/// Keys of the probes that are suspended, shared with their tasks.
#[derive(Debug, Clone, Default)]
struct Suspended(Arc<Mutex<BTreeSet<Arc<str>>>>);

impl Suspended {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    /// Runs nothing yet. Samples go to `samples`; while nobody takes them, probes wait.
    pub fn new(context: Context, samples: mpsc::Sender<Sample>) -> Self {
        Self { context, samples, origin: Instant::now(), running: BTreeMap::new(), suspended: Suspended::default() }
    }

    /// Takes the host samples at this interval from now on.
    pub fn watch_host(&mut self, every: Duration) {
        let key: Arc<str> = ProbeKey::host().as_str().into();
        match self.running.get(&key) {
            Some(running) => drop(running.orders.try_send(Order::Every(every.max(SHORTEST)))),
            None => {
                let probe = Box::new(Host::new(&self.context));
                self.start(key, every, HOST_TIMEOUT, probe);
            }
        }
    }

    /// Runs exactly these probes, besides the host samples. Those that run already go on.
    pub fn assign(&mut self, assignments: Vec<Assignment>) {
        let host: Arc<str> = ProbeKey::host().as_str().into();
        let wanted: BTreeSet<&Arc<str>> = assignments.iter().map(|assignment| &assignment.key).collect();
        self.running.retain(|key, _| *key == host || wanted.contains(key));
        self.suspended.lock().retain(|key| wanted.contains(key));
        for (number, assignment) in assignments.into_iter().enumerate() {
            if assignment.key == host || self.running.contains_key(&assignment.key) {
                continue;
            }
            let spec = if number < MOST_PROBES {
                assignment.spec
            } else {
                Err(format!("a host runs at most {MOST_PROBES} probes"))
            };
            let probe = spec.and_then(|spec| build(&spec, &self.context)).unwrap_or_else(|reason| {
                tracing::warn!(key = %assignment.key, reason, "a probe cannot run here");
                Box::new(Unusable(reason))
            });
            self.start(assignment.key, assignment.every, assignment.timeout, probe);
        }
    }

    fn start(&mut self, key: Arc<str>, every: Duration, timeout: Duration, probe: Box<dyn Probe>) {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let spent = cost::Spent::default();
        let task = Task {
            key: Arc::clone(&key),
            every: every.max(SHORTEST),
            timeout,
            origin: self.origin,
            probe,
            orders: receiver,
            samples: self.samples.clone(),
            suspended: self.suspended.clone(),
            spent: spent.clone(),
        };
        let running = Running { orders, spent, _task: AbortOnDropHandle::new(tokio::spawn(task.run())) };
        self.running.insert(key, running);
    }

    /// Lets these probes look at once.
    pub fn look_now(&self, keys: &[String]) {
        for running in keys.iter().filter_map(|key| self.running.get(key.as_str())) {
            // A full queue holds the same order already.
            let _ = running.orders.try_send(Order::Now);
        }
    }

    /// Lets every probe look at once.
    pub fn look_all(&self) {
        for running in self.running.values() {
            let _ = running.orders.try_send(Order::Now);
        }
    }

    /// Asks for the last lines of the log that a probe watches; the answer comes when the probe is free.
    pub fn tail(&self, key: &str, lines: usize) -> oneshot::Receiver<Tail> {
        let (answer, receiver) = oneshot::channel();
        let sent = match self.running.get(key) {
            Some(running) => running.orders.try_send(Order::Tail { lines, answer }).map_err(|error| error.into_inner()),
            None => Err(Order::Tail { lines, answer }),
        };
        if let Err(Order::Tail { answer, .. }) = sent {
            let _ = answer.send(Err("no probe with this key runs on the host, or it is busy".to_owned()));
        }
        receiver
    }

    /// Keys of the probes that are suspended because they cost too much.
    pub fn suspended(&self) -> Vec<String> {
        self.suspended.lock().iter().map(ToString::to_string).collect()
    }

    /// Number of probes that run, the host samples among them.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Suspends the probe that has cost most of late, when the agent as a whole uses too much. Says which it was;
    /// absent when only the host samples are left.
    pub fn suspend_costliest(&self, reason: &str) -> Option<Arc<str>> {
        let host = ProbeKey::host();
        let suspended = self.suspended.lock().clone();
        let (key, running) = self
            .running
            .iter()
            .filter(|(key, _)| ***key != *host.as_str() && !suspended.contains(*key))
            .max_by_key(|(_, running)| running.spent.recent())?;
        let _ = running.orders.try_send(Order::Suspend(reason.to_owned()));
        Some(Arc::clone(key))
    }
}

/// Stands for a probe that this agent cannot run: it says why, and nothing that could be acted on.
struct Unusable(String);

impl Probe for Unusable {
    fn attempt(&mut self, _timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(std::future::ready(Attempt::not_made(self.0.clone())))
    }
}

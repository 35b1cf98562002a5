//! Who is connected, and what is known of hosts that is never recorded: when they were last heard, how many samples
//! came, how many were dropped.
//!
//! At most one session of a host is installed at a time. Messages to agents go through here without waiting: a session
//! that cannot keep up is ended and gets everything again when it comes back, since what an agent is owed follows from
//! the state.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use quell_model::name::HostName;
use quell_wire::v1;
use tokio_util::sync::CancellationToken;

use crate::session::{Ending, Outbox};

/// The sessions of all hosts, and the hosts' live facts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    inner: Arc<Mutex<HashMap<HostName, Entry>>>,
}

#[derive(Debug, Default)]
struct Entry {
    session: Option<Arc<Session>>,
    live: Arc<Live>,
}

/// A session as others see it.
#[derive(Debug)]
pub struct Session {
    /// Where messages to the agent go.
    pub outbox: Outbox,
    /// Ends the session, with the first reason given.
    pub end: Ending,
    /// Set when another session of the host took over; this one then does not say that the host is gone.
    pub replaced: AtomicBool,
    /// Cancelled when the session has said its last word to the decider.
    pub gone: CancellationToken,
}

/// What is counted while the controller runs.
#[derive(Debug, Default)]
pub struct Live {
    last_seen_ms: AtomicI64,
    samples: AtomicU64,
    spooled: AtomicU64,
    dropped: AtomicU64,
    resident_bytes: AtomicU64,
    cpu_ms: AtomicU64,
    probes: AtomicU64,
    suspended: Mutex<Vec<String>>,
}

/// A look at what is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveFacts {
    /// When the host was last heard; absent: not since the controller started.
    pub last_seen: Option<Timestamp>,
    /// Samples taken in, spooled ones included.
    pub samples: u64,
    /// Samples among them that had waited in the agent's spool: counted, never judged.
    pub spooled: u64,
    /// Samples that the agent had to drop.
    pub dropped: u64,
    /// The agent's resident memory, bytes; 0 before its first heartbeat.
    pub resident_bytes: u64,
    /// The agent's processor time, milliseconds.
    pub cpu_ms: u64,
    /// Probes that were assigned, host samples not counted.
    pub probes: u32,
    /// Probes that the agent suspended because they cost too much.
    pub suspended: Vec<String>,
}

impl Live {
    /// The host was heard.
    pub fn heard(&self, now: Timestamp) {
        self.last_seen_ms.fetch_max(now.as_millisecond(), Ordering::Relaxed);
    }

    /// Samples came in, of which so many had waited in the spool.
    pub fn took(&self, samples: usize, spooled: usize) {
        self.samples.fetch_add(samples as u64, Ordering::Relaxed);
        self.spooled.fetch_add(spooled as u64, Ordering::Relaxed);
    }

    /// The agent dropped so many more samples.
    pub fn lost(&self, samples: u64) {
        self.dropped.fetch_add(samples, Ordering::Relaxed);
    }

    /// So many probes were assigned.
    pub fn assigned(&self, probes: usize) {
        self.probes.store(probes as u64, Ordering::Relaxed);
    }

    /// The agent said how it is.
    pub fn beat(&self, resident_bytes: u64, cpu_ms: u64, suspended: Vec<String>) {
        self.resident_bytes.store(resident_bytes, Ordering::Relaxed);
        self.cpu_ms.store(cpu_ms, Ordering::Relaxed);
        *lock(&self.suspended) = suspended;
    }

    fn facts(&self) -> LiveFacts {
        let last_seen = match self.last_seen_ms.load(Ordering::Relaxed) {
            0 => None,
            millis => Timestamp::from_millisecond(millis).ok(),
        };
        LiveFacts {
            last_seen,
            samples: self.samples.load(Ordering::Relaxed),
            spooled: self.spooled.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            resident_bytes: self.resident_bytes.load(Ordering::Relaxed),
            cpu_ms: self.cpu_ms.load(Ordering::Relaxed),
            probes: u32::try_from(self.probes.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            suspended: lock(&self.suspended).clone(),
        }
    }
}

impl Registry {
    /// Ends the host's session, if there is one, in favour of a new one; the caller waits for the returned token before
    /// it says anything of the new session to the decider.
    pub fn replace(&self, host: &HostName) -> Option<CancellationToken> {
        let session = lock(&self.inner).get(host).and_then(|entry| entry.session.clone())?;
        session.replaced.store(true, Ordering::SeqCst);
        session.end.because(tonic::Status::aborted("another session of this host took over"));
        Some(session.gone.clone())
    }

    /// Makes this the host's session: from now on messages to the host go to it. Returns the one that it replaces.
    pub fn install(&self, host: &HostName, session: Arc<Session>) -> Option<Arc<Session>> {
        lock(&self.inner).entry(host.clone()).or_default().session.replace(session)
    }

    /// Forgets a session, unless another one has taken its place.
    pub fn remove(&self, host: &HostName, session: &Arc<Session>) {
        if let Some(entry) = lock(&self.inner).get_mut(host)
            && entry.session.as_ref().is_some_and(|installed| Arc::ptr_eq(installed, session))
        {
            entry.session = None;
        }
    }

    /// The host's counters.
    pub fn live(&self, host: &HostName) -> Arc<Live> {
        lock(&self.inner).entry(host.clone()).or_default().live.clone()
    }

    /// What is counted of a host.
    pub fn facts(&self, host: &HostName) -> LiveFacts {
        lock(&self.inner).get(host).map(|entry| entry.live.facts()).unwrap_or_default()
    }

    /// Sends a message to a host; false when it has no session, or the session was just ended because it is too slow.
    pub fn send(&self, host: &HostName, message: v1::ControllerMessage) -> bool {
        let Some(session) = lock(&self.inner).get(host).and_then(|entry| entry.session.clone()) else { return false };
        match session.outbox.push(message) {
            Ok(()) => true,
            Err(overflow) => {
                tracing::warn!(%host, %overflow, "an agent does not read what it is sent, its session ends");
                session.end.because(tonic::Status::resource_exhausted(overflow.to_string()));
                false
            }
        }
    }

    /// Ends the host's session with a reason: its certificate was revoked.
    pub fn disconnect(&self, host: &HostName, reason: &str) {
        let session = lock(&self.inner).get(host).and_then(|entry| entry.session.clone());
        if let Some(session) = session {
            session.end.because(tonic::Status::permission_denied(reason));
            session.end.cut();
        }
    }

    /// How many hosts have a session.
    pub fn online(&self) -> usize {
        lock(&self.inner).values().filter(|entry| entry.session.is_some()).count()
    }
}

/// A lock whose holder panicked holds counters and handles, all of them still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

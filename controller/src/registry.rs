//! Who is connected, and what is known of hosts that is never recorded: when they were last heard, how many samples
//! came, how many were dropped.
//!
//! At most one session of a host is installed at a time, and never one of an older connection than another that was heard
//! of already. It gets what was decided after its hello, and nothing that was decided before. Messages to agents go
//! through here without waiting: a session that cannot keep up is ended and gets everything again when it comes back,
//! since what an agent is owed follows from the state.

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
    /// The newest connection on which the host said hello.
    newest: u64,
    live: Arc<Live>,
}

/// The host has said hello on a newer connection: what it says on this one it said before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this host has a newer connection")]
pub struct Older;

/// A session as others see it.
#[derive(Debug)]
pub struct Session {
    /// The connection that it goes over.
    pub connection: u64,
    /// Whether what is sent to the host goes here: set when its hello was decided about.
    pub is_open: AtomicBool,
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

impl Entry {
    /// The number of a connection, if the host has no newer one.
    fn not_older(&self, connection: u64) -> Result<u64, Older> {
        if connection < self.newest { Err(Older) } else { Ok(connection) }
    }
}

impl Registry {
    /// Ends the host's session, if there is one, in favour of one on this connection; the caller waits for the returned
    /// token before it says anything of the new session to the decider.
    ///
    /// # Errors
    /// The host has a newer connection already.
    pub fn replace(&self, host: &HostName, connection: u64) -> Result<Option<CancellationToken>, Older> {
        let session = {
            let mut inner = lock(&self.inner);
            let entry = inner.entry(host.clone()).or_default();
            entry.newest = entry.not_older(connection)?;
            entry.session.clone()
        };
        Ok(session.map(|session| {
            session.replaced.store(true, Ordering::SeqCst);
            session.end.because(tonic::Status::aborted("another session of this host took over"));
            session.gone.clone()
        }))
    }

    /// Makes this the host's session, which has to be opened still. Returns the one that it replaces.
    ///
    /// # Errors
    /// The host has a newer connection by now.
    pub fn install(&self, host: &HostName, session: Arc<Session>) -> Result<Option<Arc<Session>>, Older> {
        let mut inner = lock(&self.inner);
        let entry = inner.entry(host.clone()).or_default();
        entry.not_older(session.connection)?;
        Ok(entry.session.replace(session))
    }

    /// From now on messages to the host go to its session, if that is on this connection.
    pub fn open(&self, host: &HostName, connection: u64) {
        let session = lock(&self.inner).get(host).and_then(|entry| entry.session.clone());
        if let Some(session) = session.filter(|session| session.connection == connection) {
            session.is_open.store(true, Ordering::SeqCst);
        }
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

    /// Sends a message to a host; false when it has no open session, or the session was just ended because it is too slow.
    pub fn send(&self, host: &HostName, message: v1::ControllerMessage) -> bool {
        let session = lock(&self.inner).get(host).and_then(|entry| entry.session.clone());
        let Some(session) = session.filter(|session| session.is_open.load(Ordering::SeqCst)) else { return false };
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

#[cfg(test)]
mod tests {
    use quell_wire::v1::{Acknowledge, controller_message::Body};

    use super::*;
    use crate::session::outbox::outbox;

    /// An order that was released before the hello of a session was decided about would reach the agent although that
    /// decision takes it for lost.
    #[test]
    fn a_session_gets_what_is_sent_after_it_was_opened_and_nothing_before() {
        let (registry, host): (Registry, HostName) = (Registry::default(), "web1".parse().unwrap());
        let end = Ending::new(CancellationToken::new());
        let (outbox, _outbound) = outbox(&end);
        let session = |connection| {
            let (outbox, end, gone) = (outbox.clone(), end.clone(), CancellationToken::new());
            Arc::new(Session { connection, is_open: false.into(), outbox, end, replaced: false.into(), gone })
        };
        let send = || {
            let body = Some(Body::Acknowledge(Acknowledge { sequence: 1 }));
            registry.send(&host, v1::ControllerMessage { body })
        };
        registry.install(&host, session(1)).unwrap();
        assert!(!send());
        registry.open(&host, 1);
        assert!(send());

        registry.replace(&host, 2).unwrap();
        registry.install(&host, session(2)).unwrap();
        registry.open(&host, 1);
        assert!(!send(), "the word was for the session before it");
        registry.open(&host, 2);
        assert!(send());
        assert_eq!(registry.install(&host, session(1)).err(), Some(Older), "it waited while a newer one came");
    }
}

//! What was refused, on record: who wanted what, and why not.
//!
//! There is one place for all of it, the listening side's [`Gatekeeper::refused`](quell_link::server::Gatekeeper): it sees
//! what the table of rights refuses and what a handler does. The first refusal of a kind is recorded at once; more of the
//! same are counted and recorded together, so that no flood of them fills the disk.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use quell_engine::{Actor, Change};
use quell_link::{
    access::{self, Caller, Right},
    identity::{Peer, Role},
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{decider::Handle, notices};

/// Refusals that wait to be taken in; what comes beyond is counted.
const QUEUE: usize = 256;
/// Refusals of one kind are recorded once in this time, after the first.
const WINDOW: Duration = Duration::from_secs(300);
/// So many kinds are told apart in that time; what comes beyond is counted together.
const KINDS: usize = 32;
/// How often counts and notices are looked at.
const TICK: Duration = Duration::from_secs(5);
/// Longest reason on record, in characters.
const REASON: usize = 500;
/// The kind of the record.
pub const REFUSED: &str = "requestRefused";

/// Takes refusals and never waits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Refusals {
    queue: mpsc::Sender<Refused>,
    lost: Arc<AtomicU64>,
}

/// Records them.
#[derive(Debug)]
pub struct Service {
    queue: mpsc::Receiver<Refused>,
    lost: Arc<AtomicU64>,
}

/// One refusal.
#[derive(Debug, Clone)]
struct Refused {
    actor: Actor,
    /// `CreateToken`.
    call: String,
    code: Code,
    reason: String,
    address: String,
}

/// Where refusals are told, and the service that records them.
pub fn service() -> (Refusals, Service) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let lost = Arc::new(AtomicU64::new(0));
    (Refusals { queue: sender, lost: lost.clone() }, Service { queue, lost })
}

impl Refusals {
    /// A call was refused.
    pub(super) fn tell(&self, peer: &Peer, path: &str, status: &Status) {
        if !is_worth_a_record(peer, path, status.code()) {
            return;
        }
        let actor = match &peer.role {
            Some(Role::Operator { name }) => Actor::Person(name.clone()),
            Some(Role::Agent { name, .. }) => Actor::Agent(name.clone()),
            None => Actor::Controller,
        };
        let refused = Refused {
            actor,
            call: path.rsplit('/').next().unwrap_or(path).chars().take(64).collect(),
            code: status.code(),
            reason: status.message().chars().take(REASON).collect(),
            address: peer.address.ip().to_string(),
        };
        if self.queue.try_send(refused).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What changes nothing and makes no sense is a slip, and no record; what nobody with a certificate tries is one only where
/// a certificate is asked for.
fn is_worth_a_record(peer: &Peer, path: &str, code: Code) -> bool {
    let caller = access::TABLE.iter().find(|rule| rule.path == path).map(|rule| rule.caller);
    let changes = !matches!(caller, None | Some(Caller::Operator(Right::Read)) | Some(Caller::Agent));
    let is_join = path.starts_with("/quell.v1.EnrolmentService/");
    match code {
        Code::PermissionDenied | Code::Unauthenticated => peer.role.is_some() || is_join,
        Code::InvalidArgument
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::Aborted
        | Code::ResourceExhausted => changes && (peer.role.is_some() || is_join),
        _ => false,
    }
}

/// Which refusals are of one kind.
type Kind = (String, String, i32);

fn kind(refused: &Refused) -> Kind {
    (refused.actor.to_string(), refused.call.clone(), i32::from(refused.code))
}

/// What was counted since the last record of a kind.
struct Counted {
    since: Instant,
    count: u64,
    newest: Refused,
}

/// Decides what is recorded when.
#[derive(Default)]
struct Ledger {
    kinds: BTreeMap<Kind, Counted>,
    /// Beyond the kinds that are told apart, and what found no place in the queue.
    others: u64,
    others_since: Option<Instant>,
}

impl Ledger {
    /// Takes in a refusal; the record, if it is the first of its kind.
    fn take(&mut self, refused: Refused, now: Instant) -> Option<Change> {
        let kind = kind(&refused);
        if let Some(counted) = self.kinds.get_mut(&kind) {
            counted.count += 1;
            counted.newest = refused;
            return None;
        }
        if self.kinds.len() >= KINDS {
            self.count_others(1, now);
            return None;
        }
        let first = refused.change(1, false);
        self.kinds.insert(kind, Counted { since: now, count: 0, newest: refused });
        Some(first)
    }

    fn count_others(&mut self, count: u64, now: Instant) {
        if count > 0 {
            self.others += count;
            self.others_since.get_or_insert(now);
        }
    }

    /// The records that are due: of each kind that came again, and none of what has ended.
    fn due(&mut self, now: Instant, everything: bool) -> Vec<Change> {
        let is_over = |since: Instant| everything || now.duration_since(since) >= WINDOW;
        let mut changes = Vec::new();
        self.kinds.retain(|_, counted| {
            if !is_over(counted.since) {
                return true;
            }
            let came_again = counted.count > 0;
            if came_again {
                changes.push(counted.newest.change(counted.count, true));
            }
            counted.count = 0;
            counted.since = now;
            came_again
        });
        if self.others_since.is_some_and(is_over) {
            changes.push(others(std::mem::take(&mut self.others)));
            self.others_since = None;
        }
        changes
    }
}

impl Refused {
    fn change(&self, count: u64, is_again: bool) -> Change {
        let Self { actor, call, code, reason, address } = self;
        let who = match actor {
            Actor::Person(name) => name.clone(),
            Actor::Agent(host) => host.to_string(),
            _ => format!("a machine at {address}"),
        };
        let text = match is_again {
            false => format!("{call} of {who} was refused: {reason}"),
            true => format!("{call} of {who} was refused again, {count} times; the last time: {reason}"),
        };
        let data = json!({
            "call": call, "code": format!("{code:?}"), "reason": reason, "address": address, "count": count,
        });
        change(actor.clone(), text, data)
    }
}

fn others(count: u64) -> Change {
    let text = format!("{count} more requests were refused, too many to be told apart");
    change(Actor::Controller, text, json!({ "count": count }))
}

fn change(actor: Actor, text: String, data: serde_json::Value) -> Change {
    Change {
        time: Timestamp::UNIX_EPOCH,
        ids: match &actor {
            Actor::Person(name) => BTreeMap::from([("operator", name.clone())]),
            Actor::Agent(host) => BTreeMap::from([("host", host.to_string())]),
            _ => BTreeMap::new(),
        },
        actor,
        kind: REFUSED,
        text,
        data,
        writes: Vec::new(),
    }
}

impl Service {
    /// Runs until cancelled, or until the decider has ended. What was counted is on record when it returns.
    pub async fn run(mut self, decider: Handle, data_dir: PathBuf, stop: CancellationToken) {
        let mut ledger = Ledger::default();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let changes = tokio::select! {
                () = stop.cancelled() => break,
                refused = self.queue.recv() => match refused {
                    Some(refused) => take(&mut ledger, refused, &decider),
                    None => break,
                },
                _ = tick.tick() => {
                    ledger.count_others(self.lost.swap(0, Ordering::Relaxed), Instant::now());
                    if decider.is_full() {
                        continue;
                    }
                    adopt_notices(&decider, &data_dir).await;
                    ledger.due(Instant::now(), false)
                }
            };
            record(&decider, changes).await;
        }
        while let Ok(refused) = self.queue.try_recv() {
            record(&decider, take(&mut ledger, refused, &decider)).await;
        }
        ledger.count_others(self.lost.swap(0, Ordering::Relaxed), Instant::now());
        record(&decider, ledger.due(Instant::now(), true)).await;
    }
}

/// Takes in a refusal. On a full disk it is only counted: the reserve is for what stops things.
fn take(ledger: &mut Ledger, refused: Refused, decider: &Handle) -> Vec<Change> {
    if decider.is_full() {
        ledger.count_others(1, Instant::now());
        return Vec::new();
    }
    ledger.take(refused, Instant::now()).into_iter().collect()
}

async fn record(decider: &Handle, changes: Vec<Change>) {
    for change in changes {
        if let Err(error) = decider.note(change).await {
            tracing::warn!(%error, "a refusal is not on record");
        }
    }
}

/// Records what other programs did, and removes their notices once that is durable.
async fn adopt_notices(decider: &Handle, data_dir: &std::path::Path) {
    let directory = data_dir.to_owned();
    let Ok(waiting) = tokio::task::spawn_blocking(move || notices::waiting(&directory)).await else { return };
    for (path, change) in waiting {
        match decider.note(change).await {
            Ok(()) => {
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::error!(path = %path.display(), %error, "a notice is recorded and cannot be removed");
                }
            }
            Err(error) => tracing::error!(path = %path.display(), %error, "a notice is not on record yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use quell_model::digest::Digest;

    use super::*;

    fn refused(who: &str, call: &str, code: Code) -> Refused {
        Refused {
            actor: Actor::Person(who.to_owned()),
            call: call.to_owned(),
            code,
            reason: "because".to_owned(),
            address: "192.0.2.1".to_owned(),
        }
    }

    #[test]
    fn the_first_of_a_kind_is_recorded_at_once_and_the_rest_together() {
        let (mut ledger, begin) = (Ledger::default(), Instant::now());
        let first = ledger.take(refused("mira", "Run", Code::PermissionDenied), begin).unwrap();
        assert_eq!((first.actor, first.kind), (Actor::Person("mira".to_owned()), REFUSED));
        assert_eq!(first.text, "Run of mira was refused: because");
        for _ in 0..1_000 {
            assert!(ledger.take(refused("mira", "Run", Code::PermissionDenied), begin).is_none());
        }
        assert!(ledger.take(refused("mira", "Hold", Code::PermissionDenied), begin).is_some());
        assert!(ledger.take(refused("mira", "Run", Code::InvalidArgument), begin).is_some());
        assert!(ledger.take(refused("vera", "Run", Code::PermissionDenied), begin).is_some());
        assert!(ledger.due(begin + WINDOW / 2, false).is_empty());
        let due = ledger.due(begin + WINDOW, false);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].data["count"], 1_000);
        // It is counted on for as long as it goes on, and is new again once it has stopped.
        assert!(ledger.take(refused("mira", "Run", Code::PermissionDenied), begin + WINDOW).is_none());
        assert_eq!(ledger.due(begin + 2 * WINDOW, false).len(), 1);
        assert!(ledger.due(begin + 3 * WINDOW, false).is_empty());
        assert!(ledger.take(refused("mira", "Run", Code::PermissionDenied), begin + 3 * WINDOW).is_some());
    }

    #[test]
    fn a_flood_of_kinds_is_bounded_and_nothing_is_uncounted() {
        let (mut ledger, begin) = (Ledger::default(), Instant::now());
        let mut on_record = 0;
        for number in 0..10_000_u64 {
            let change = ledger.take(refused(&format!("person-{number}"), "Run", Code::PermissionDenied), begin);
            on_record += change.map_or(0, |change| change.data["count"].as_u64().unwrap());
        }
        assert_eq!(on_record, KINDS as u64);
        let due = ledger.due(begin, true);
        assert_eq!(due.len(), 1);
        assert_eq!(on_record + due[0].data["count"].as_u64().unwrap(), 10_000);
    }

    #[test]
    fn slips_of_readers_and_strangers_at_the_door_are_no_records() {
        let peer = |role| Peer {
            role,
            key: Digest::default(),
            not_after: None,
            address: "192.0.2.1:1".parse().unwrap(),
            connection: 1,
            cut: CancellationToken::new(),
        };
        let (mira, nobody) = (peer(Some(Role::Operator { name: "mira".to_owned() })), peer(None));
        let call = |method: &str| format!("/quell.v1.OperatorService/{method}");
        assert!(is_worth_a_record(&mira, &call("Hold"), Code::InvalidArgument));
        assert!(is_worth_a_record(&mira, &call("Events"), Code::PermissionDenied));
        assert!(is_worth_a_record(&mira, "/quell.v1.AgentService/Session", Code::PermissionDenied));
        assert!(is_worth_a_record(&nobody, "/quell.v1.EnrolmentService/Join", Code::PermissionDenied));
        assert!(!is_worth_a_record(&mira, &call("Get"), Code::NotFound));
        assert!(!is_worth_a_record(&mira, &call("Hold"), Code::Unavailable));
        assert!(!is_worth_a_record(&nobody, &call("Hold"), Code::Unauthenticated));
    }
}

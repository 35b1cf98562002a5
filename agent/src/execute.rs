//! Carrying out orders: one at a time for each resource, journaled, at most once.
//!
//! Intent (synced) → effect → outcome (synced). An order that was seen before has no effect; it is answered with the
//! outcome that the journal holds. After a crash, what can be repeated is looked at again and goes on; what cannot is
//! verified and becomes unknown. When the journal cannot be made durable, nothing is done any more.

mod at_hand;
mod carry_out;
pub mod journal;
pub mod outcome;
mod queue;
mod recover;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use quell_wire::v1;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub use journal::Error;

use crate::{
    actions::{self, Host},
    belief::{Beliefs, Taken, Told},
    clock::ClockOffset,
    config::Config,
    guard::{self, HostHold, Surroundings},
    legal_hold::LegalHoldFile,
    managers::Managers,
};
use at_hand::AtHand;
use journal::{Journal, Record};
use queue::{Message, Queue};

/// Reports that wait for the session; when nobody takes them, orders wait as well.
pub const REPORT_CAPACITY: usize = 256;

/// Messages that wait for the queue, which never waits itself.
const INBOX_CAPACITY: usize = 64;

/// What became of an order, as it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Its intent is durable and it begins.
    Started(v1::ActionStarted),
    /// What it would do: the answer to `preview_only`.
    Preview(v1::Preview),
    /// How it ended. It stays in [`Handle::journal`] until [`Handle::acknowledged`].
    Outcome(v1::Outcome),
}

/// The receiving end of the reports.
pub type Reports = mpsc::Receiver<Report>;

/// What carrying out orders needs.
pub struct Options {
    /// Where the journal lies.
    pub data_directory: PathBuf,
    /// What is allowed.
    pub config: Arc<Config>,
    /// Who runs services.
    pub managers: Arc<Managers>,
    /// Whom the host believes, and what it has seen and done.
    pub beliefs: Arc<Beliefs>,
    /// How far the host's clock is from the controller's.
    pub clock: ClockOffset,
    /// The hold of the host's administrator.
    pub host_hold: HostHold,
    /// Where the signs are that an order must give way.
    pub surroundings: Surroundings,
}

/// What every order's task shares.
struct Shared {
    host: Host,
    journal: Journal,
    at_hand: AtHand,
    ends: outcome::Ends,
    reports: mpsc::Sender<Report>,
    beliefs: Arc<Beliefs>,
    clock: ClockOffset,
    host_hold: HostHold,
    surroundings: Surroundings,
}

/// Gives orders, and asks what became of them; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

/// Opens the journal, goes on with what a crash has interrupted, and takes orders. Must be called within the runtime.
///
/// # Errors
/// When the journal cannot be read or written, or another agent has it.
pub async fn start(options: Options) -> Result<(Handle, Reports), Error> {
    let directory = options.data_directory.clone();
    let journal = tokio::task::spawn_blocking(move || Journal::open(&directory))
        .await
        .unwrap_or_else(|error| Err(Error::Broken(error.to_string())))?;
    let (reports, receiver) = mpsc::channel(REPORT_CAPACITY);
    let (inbox, messages) = mpsc::channel(INBOX_CAPACITY);
    let shared = Arc::new(Shared {
        host: Host {
            config: options.config,
            managers: options.managers,
            legal_holds: LegalHoldFile::new(&options.data_directory),
        },
        journal,
        at_hand: AtHand::default(),
        ends: outcome::Ends::default(),
        reports,
        beliefs: options.beliefs,
        clock: options.clock,
        host_hold: options.host_hold,
        surroundings: options.surroundings,
    });
    tokio::spawn(Queue::new(Arc::clone(&shared), messages).run());
    Ok((Handle { inbox, shared }, receiver))
}

impl Handle {
    /// Gives an order, which is at hand as soon as this returns. What becomes of it comes as reports. Its signatures are
    /// verified by what this returns, so that neither the queue nor the runtime waits for that.
    pub fn submit(&self, command: v1::Command) -> impl Future<Output = ()> + Send + use<> {
        let received = Instant::now();
        // A question is never begun.
        let held = (!command.preview_only).then(|| self.shared.at_hand.hold(&command.command_id));
        let handle = self.clone();
        async move {
            let shared = Arc::clone(&handle.shared);
            let asked = actions::blocking(move || {
                let admitted = guard::admit(&command, &shared.beliefs, &shared.host.config, jiff::Timestamp::now());
                (Box::new(command), admitted)
            });
            match asked.await {
                Ok((command, admitted)) => handle.send(Message::Submit { command, held, received, admitted }).await,
                // The controller is owed an outcome and sends it again.
                Err(error) => tracing::error!(error, "an order could not be looked at"),
            }
        }
    }

    /// The orders that were given and have no outcome yet, by the controller's names of them.
    pub fn at_hand(&self) -> BTreeSet<String> {
        self.shared.at_hand.names()
    }

    /// Takes in a signed change of what the host believes, or says why not.
    pub async fn believe(&self, change: v1::SignedChange) {
        let beliefs = Arc::clone(&self.shared.beliefs);
        let now = jiff::Timestamp::now();
        let taken = actions::blocking(move || beliefs.take(&change.document, &change.signatures, now)).await;
        match taken {
            Ok(Ok(Taken::Root(version))) => tracing::info!(version, "whom this host believes has a new version"),
            Ok(Ok(Taken::Labels(version))) => tracing::info!(version, "signed labels of this host are taken in"),
            Ok(Err(reason)) => tracing::warn!(%reason, "a change of what this host believes is refused"),
            Err(error) => tracing::error!(error, "a change of what this host believes could not be looked at"),
        }
    }

    /// What the controller is told of what the host believes.
    pub fn beliefs(&self) -> Told {
        self.shared.beliefs.told()
    }

    /// The specifications of all probes that people signed for this host: each as canonical JSON.
    pub fn vouched(&self, signed: &[v1::SignedPolicies]) -> BTreeSet<String> {
        guard::vouched(&self.shared.beliefs, signed, jiff::Timestamp::now())
    }

    /// Calls an order off: it is not begun, or stopped where it can be.
    pub async fn cancel(&self, command_id: &str, reason: &str) {
        self.send(Message::Cancel { command_id: command_id.to_owned(), reason: reason.to_owned() }).await;
    }

    /// What the journal holds without an acknowledgement, oldest first: for the session's first message.
    pub fn journal(&self) -> Vec<v1::JournalEntry> {
        self.shared.journal.open_records().iter().filter_map(|record| self.entry(record)).collect()
    }

    /// The highest fence that was seen.
    pub fn fence(&self) -> u64 {
        self.shared.journal.fence()
    }

    /// The controller has durably taken in the outcome with this idempotency key.
    pub async fn acknowledged(&self, key: &str) {
        self.send(Message::Acknowledged(key.to_owned())).await;
    }

    /// Begins nothing more, and ends when what runs has ended. What is still running when the caller gives up is taken
    /// up again by the next agent.
    pub async fn stop(&self) {
        let (done, ended) = oneshot::channel();
        self.send(Message::Stop(done)).await;
        // An error says that the queue is gone, and then nothing runs.
        let _ended = ended.await;
    }

    async fn send(&self, message: Message) {
        if self.inbox.send(message).await.is_err() {
            tracing::error!("the queue of orders has ended");
        }
    }

    fn entry(&self, record: &Record) -> Option<v1::JournalEntry> {
        let (key, command_id) = match (&record.intent, &record.outcome) {
            (_, Some(stored)) => (&stored.key, &stored.command_id),
            (Some(intent), None) => (&intent.key, &intent.command_id),
            (None, None) => return None,
        };
        Some(v1::JournalEntry {
            idempotency_key: wire_key(key).to_owned(),
            command_id: command_id.clone(),
            outcome: record.outcome.as_ref().map(|stored| self.shared.ends.wire(stored)),
        })
    }
}

impl Shared {
    async fn report(&self, report: Report) {
        if self.reports.send(report).await.is_err() {
            tracing::debug!("nobody takes reports any more");
        }
    }
}

/// An order that undoes another bears the other's key; in the journal it has one of its own, which begins with this.
pub const UNDO: &str = "undo ";

/// Under which key the journal finds an order.
pub fn journal_key(command: &v1::Command) -> String {
    if command.undo { format!("{UNDO}{}", command.idempotency_key) } else { command.idempotency_key.clone() }
}

/// The key that the controller gave an order that the journal knows by `key`.
pub fn wire_key(key: &str) -> &str {
    key.strip_prefix(UNDO).unwrap_or(key)
}

#[cfg(test)]
pub(crate) mod tests;

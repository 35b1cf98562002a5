//! How everything else talks to the decider. Cheap to clone.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use quell_engine::{
    Actor, Change, Input, State, Windows,
    input::{Refusal, Reply, Request},
};
use tokio::sync::{oneshot, watch};

use super::{
    clock::EngineClock,
    queue::{Lane, Queue},
};
use crate::store::{self, Head, Reader, Record};

/// The decider has stopped, or could not commit: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the controller cannot decide: {0}")]
pub struct Unavailable(pub String);

/// Why a request had no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// The engine said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be decided, or not be recorded; nothing was changed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What the decider is given.
pub(crate) enum Item {
    Step {
        input: Input,
        answer: Answer,
    },
    Question(Question),
    /// Something that happened at the edge and changes no state.
    Note {
        change: Box<Change>,
        answer: Answer,
    },
    Stop,
}

/// Something asked of what only the decider's thread knows.
pub(crate) type Question = Box<dyn FnOnce(&Windows, &State, Timestamp) + Send>;

/// Who waits for an input to be durable.
pub(crate) enum Answer {
    Nobody,
    Durable(oneshot::Sender<Result<(), Unavailable>>),
    Request(oneshot::Sender<Result<Reply, Failed>>),
}

/// What handles and the decider share.
pub(crate) struct Shared {
    pub(crate) queue: Queue<Item>,
    pub(crate) state: ArcSwap<State>,
    pub(crate) clock: EngineClock,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) is_full: AtomicBool,
    /// Why it failed, if it has: known before the queue closes.
    pub(crate) failure: OnceLock<String>,
    /// Whether the decider has ended.
    pub(crate) ended: watch::Sender<bool>,
}

/// Talks to the decider.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Asks for something. The answer comes once what it led to is durable. Requests overtake everything else.
    ///
    /// # Errors
    /// The engine refused, or nothing could be decided; either way nothing was changed.
    pub async fn request(&self, actor: Actor, request: Request) -> Result<Reply, Failed> {
        let (answer, answered) = oneshot::channel();
        let input = Input::Request { actor, request: Box::new(request) };
        self.push(Lane::Urgent, Item::Step { input, answer: Answer::Request(answer) }).await?;
        answered.await.unwrap_or_else(|_| Err(self.unavailable().into()))
    }

    /// Hands over something that happened, and does not wait for what it leads to. Waits while the queue is full. Inputs
    /// that are handed over one after the other are decided in that order.
    ///
    /// # Errors
    /// The decider has stopped.
    pub async fn input(&self, input: Input) -> Result<(), Unavailable> {
        self.push(Lane::Ordinary, Item::Step { input, answer: Answer::Nobody }).await
    }

    /// Hands over something that happened, and returns once what it led to is durable: it may be acknowledged then.
    ///
    /// # Errors
    /// Nothing was changed; it must not be acknowledged.
    pub async fn input_durable(&self, input: Input) -> Result<(), Unavailable> {
        let (answer, answered) = oneshot::channel();
        self.push(Lane::Ordinary, Item::Step { input, answer: Answer::Durable(answer) }).await?;
        answered.await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    /// Records something that happened at the edge and changes no state, such as a refused call. Returns once it is
    /// durable. Its time is the one at which it is recorded.
    ///
    /// # Errors
    /// It was not recorded.
    pub async fn note(&self, change: Change) -> Result<(), Unavailable> {
        let (answer, answered) = oneshot::channel();
        let item = Item::Note { change: Box::new(change), answer: Answer::Durable(answer) };
        self.push(Lane::Ordinary, item).await?;
        answered.await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    /// Asks the decider's thread something that needs the windows of samples, such as why a policy does not act. The
    /// question changes nothing and holds up decisions while it is answered.
    ///
    /// # Errors
    /// The decider has stopped.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Windows, &State, Timestamp) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let question = move |windows: &Windows, state: &State, now: Timestamp| {
            // Whoever asked may have gone.
            drop(answer.send(question(windows, state, now)));
        };
        self.push(Lane::Urgent, Item::Question(Box::new(question))).await?;
        answered.await.map_err(|_| self.unavailable())
    }

    /// The state after the newest commit.
    pub fn state(&self) -> Arc<State> {
        self.shared.state.load_full()
    }

    /// The controller's time: it never goes back. Ages of samples and outcomes are counted back from it.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// The newest durable record.
    pub fn head(&self) -> Head {
        self.shared.reader.head()
    }

    /// Told of every new head; it may skip some. Read up to it with [`Handle::records`], and none is missed.
    pub fn watch(&self) -> watch::Receiver<Head> {
        self.shared.reader.watch()
    }

    /// Up to `limit` records from sequence number `from` on, in order and without gaps; it begins later than `from` if
    /// retention has removed that one.
    ///
    /// # Errors
    /// Records are damaged or missing.
    pub async fn records(&self, from: u64, limit: usize) -> Result<Vec<Arc<Record>>, store::Error> {
        if let Some(records) = self.shared.reader.recent(from, limit) {
            return Ok(records);
        }
        self.read(move |reader| reader.records(from, limit)).await
    }

    /// Up to `limit` records as they are stored and hashed, from sequence number `from` on, read from the disk.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn lines(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, store::Error> {
        self.read(move |reader| reader.lines(from, limit)).await
    }

    /// The signed heads of the log, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn heads(&self) -> Result<Vec<String>, store::Error> {
        self.read(|reader| reader.heads()).await
    }

    /// Reads from the disk, which blocks.
    async fn read<T: Send + 'static>(
        &self,
        what: impl FnOnce(&dyn Reader) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, store::Error> {
        let reader = self.shared.reader.clone();
        let read = tokio::task::spawn_blocking(move || what(&*reader)).await;
        read.unwrap_or_else(|_| Err(store::Error::Stopped { reason: "reading the log panicked".to_owned() }))
    }

    /// Whether new plans are held because the disk is full.
    pub fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }

    /// How many inputs wait: requests of people, everything else.
    pub fn waiting(&self) -> (usize, usize) {
        self.shared.queue.lengths()
    }

    /// Ends the decider after what was handed over before; [`Handle::ended`] says when it has.
    pub async fn stop(&self) {
        // It has stopped already: all the better. The ordinary lane, so that reports that arrived first are decided.
        drop(self.push(Lane::Ordinary, Item::Stop).await);
    }

    /// Waits until the decider has ended.
    ///
    /// # Errors
    /// It ended because something failed; the process should end as well, and be started again.
    pub async fn ended(&self) -> Result<(), Unavailable> {
        // The sender lives in what this handle shares, so waiting cannot fail.
        drop(self.shared.ended.subscribe().wait_for(|ended| *ended).await);
        self.shared.failure.get().map_or(Ok(()), |reason| Err(Unavailable(reason.clone())))
    }

    async fn push(&self, lane: Lane, item: Item) -> Result<(), Unavailable> {
        self.shared.queue.push(lane, item).await.map_err(|_| self.unavailable())
    }

    fn unavailable(&self) -> Unavailable {
        Unavailable(self.shared.failure.get().map_or("it is stopping", String::as_str).to_owned())
    }
}

//! The one thread that decides and writes.
//!
//! It owns the engine's windows, the state and the store. In turns it takes what waits, steps the engine with each,
//! commits all changes of the turn as one batch (one sync of the disk), publishes the new state, and only then releases
//! effects and answers. A turn never waits for more input, so a lone event costs one sync and no delay; inputs that lead
//! to no change cost no commit at all.
//!
//! If a commit is refused, the turn is dropped as if it had never been: state is what the store holds. If it fails, the
//! thread ends with the reason, because only opening the store again tells what is durable.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use quell_engine::{Change, Effect, Input, State, Step, Windows};
use tokio::sync::watch;

use crate::store::{self, Batch, Fence, Store};

mod clock;
mod fullness;
mod handle;
mod queue;
mod stepper;
mod turn;

pub use clock::{Clock, SystemClock};
use handle::Shared;
pub use handle::{Failed, Handle, Unavailable};
pub use stepper::Stepper;

/// Stack of the thread: conditions are compiled on it, and they nest.
const STACK_BYTES: usize = 16 << 20;

/// The longest sleep: the clocks are compared and time is told to the engine at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Takes effects once they are durable. Called on the decider's thread, which stands still as long as it blocks: it may wait for
/// room, and never for the decider. What finds nobody may be dropped: what should be done follows from the state again.
pub trait Effects: Send {
    /// Carries it out, or hands it over to somebody who does.
    fn release(&mut self, effect: Effect);
}

impl<F: FnMut(Effect) + Send> Effects for F {
    fn release(&mut self, effect: Effect) {
        self(effect);
    }
}

/// What decides: [`quell_engine::step`], or a stand-in.
pub type Engine = Box<dyn FnMut(&mut Windows, &State, Timestamp, Input) -> Step + Send>;

/// What a decider is made of.
pub struct Options {
    /// Where records go. Nobody else writes to it.
    pub store: Box<dyn Store>,
    /// Where time comes from.
    pub clock: Box<dyn Clock>,
    /// Where effects go.
    pub effects: Box<dyn Effects>,
    /// What decides.
    pub engine: Engine,
    /// Who takes the lease: this process, for people (`controller on opshost, process 123`).
    pub holder: String,
}

impl Options {
    /// The machine's clocks and the real engine.
    pub fn new(store: Box<dyn Store>, effects: Box<dyn Effects>, holder: impl Into<String>) -> Self {
        Self {
            store,
            clock: Box::new(SystemClock::default()),
            effects,
            engine: Box::new(quell_engine::step),
            holder: holder.into(),
        }
    }
}

/// A decider that runs.
pub struct Decider {
    handle: Handle,
    thread: JoinHandle<()>,
}

/// What the thread owns.
struct Core {
    shared: Arc<Shared>,
    store: Box<dyn Store>,
    effects: Box<dyn Effects>,
    engine: Engine,
    windows: Windows,
    state: Arc<State>,
    fence: Fence,
    wake: Option<Timestamp>,
    space: fullness::Space,
    /// Once something is to be committed, a turn takes no further inputs after this long.
    patience: Duration,
}

impl Decider {
    /// Loads the state, takes the lease and starts the thread; the engine is told that it started before anything else.
    ///
    /// # Errors
    /// The store cannot be read or written, or no thread can be started.
    pub fn start(options: Options) -> Result<Self, store::Error> {
        let (core, restored) = Core::load(options)?;
        let shared = core.shared.clone();
        let thread = std::thread::Builder::new()
            .name("decider".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || core.run(restored))
            .map_err(|source| store::Error::Stopped { reason: format!("no thread could be started: {source}") })?;
        Ok(Self { handle: Handle { shared }, thread })
    }

    /// How to talk to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits for the thread, after [`Handle::stop`]. Blocks.
    ///
    /// # Errors
    /// It ended because something failed.
    pub fn join(self) -> Result<(), Unavailable> {
        // Its panics are caught inside and are among the reasons.
        drop(self.thread.join());
        self.handle.shared.failure.get().map_or(Ok(()), |reason| Err(Unavailable(reason.clone())))
    }
}

impl Core {
    /// Loads the state and takes the lease; says whether it comes from a backup.
    fn load(options: Options) -> Result<(Self, bool), store::Error> {
        let Options { mut store, clock, effects, engine, holder } = options;
        let reader = store.reader();
        let restored = store::starts_after_restore(&*reader)?;
        let state = Arc::new(store::load_state(&*store)?);
        let newest = reader.records(reader.head().sequence.max(1), 1)?.pop();
        let clock = clock::EngineClock::new(clock, newest.map_or(Timestamp::UNIX_EPOCH, |record| record.time));
        let fence = store.lease(&holder, clock.now())?;
        let shared = Arc::new(Shared {
            queue: queue::Queue::new(),
            state: ArcSwap::new(state.clone()),
            clock,
            reader,
            is_full: AtomicBool::new(store.is_full()),
            failure: OnceLock::new(),
            ended: watch::Sender::new(false),
        });
        let core = Self {
            shared,
            store,
            effects,
            engine,
            windows: Windows::default(),
            state,
            fence,
            wake: None,
            space: fullness::Space::default(),
            patience: turn::LONGEST_DECIDING,
        };
        Ok((core, restored))
    }

    fn run(mut self, restored: bool) {
        let shared = self.shared.clone();
        let work = AssertUnwindSafe(|| self.serve(restored));
        let mut end = match std::panic::catch_unwind(work) {
            Ok(result) => result.map_err(|error| describe(&error)),
            Err(panic) => Err(format!("deciding panicked: {}", panic_text(&*panic))),
        };
        if end.is_ok() {
            end = self.store.close().map_err(|error| describe(&error));
        }
        if let Err(reason) = &end {
            tracing::error!(reason, "the decider has stopped");
            shared.failure.get_or_init(|| reason.clone());
        }
        shared.queue.close();
        shared.ended.send_replace(true);
    }

    /// Takes turns until it is told to stop.
    fn serve(&mut self, restored: bool) -> Result<(), store::Error> {
        let mut next = self.turn(Some(Input::Started { restored }))?;
        while next == turn::Next::Turn {
            self.look_after_store()?;
            self.shared.queue.wait(self.sleep());
            next = self.next_turn()?;
        }
        Ok(())
    }

    fn look_after_store(&mut self) -> Result<(), store::Error> {
        self.look_after_space()?;
        self.store.sign_head()
    }

    /// A turn of what waits.
    fn next_turn(&mut self) -> Result<turn::Next, store::Error> {
        // An empty queue means that it slept its time out, or woke for nothing: telling the time costs little.
        let is_due = self.wake.is_some_and(|at| at <= self.shared.clock.now()) || self.is_idle();
        self.turn(is_due.then_some(Input::Tick))
    }

    fn is_idle(&self) -> bool {
        self.shared.queue.lengths() == (0, 0)
    }

    /// How long nothing need be done.
    fn sleep(&self) -> Duration {
        let Some(wake) = self.wake else { return LONGEST_SLEEP };
        let until = wake.duration_since(self.shared.clock.now()).max(SignedDuration::ZERO);
        until.unsigned_abs().min(LONGEST_SLEEP)
    }

    /// Makes the changes durable, then known.
    fn commit(&mut self, changes: Vec<Change>, state: State) -> Result<(), store::Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let count = changes.len();
        let revision = self.store.commit(Batch { guards: Vec::new(), changes, fence: self.fence })?;
        tracing::debug!(revision = revision.0, count, micros = began.elapsed().as_micros(), "committed");
        self.state = Arc::new(state);
        self.shared.state.store(self.state.clone());
        Ok(())
    }
}

/// An error with all its causes, in one line.
fn describe(error: &store::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("for no stated reason")
}

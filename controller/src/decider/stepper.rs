//! A decider without a thread: whoever has it says when it takes a turn, and what time it is.
//!
//! A simulation steps it through a time of its own. What is decided, committed and released, and in which order, is the
//! code of [`Core`], the same that runs behind [`super::Decider`].

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use quell_engine::{Input, State, input::Reply};
use tokio::sync::oneshot;

use super::{
    Core, Failed, Options, Unavailable,
    handle::{Answer, Item},
    queue::Lane,
};
use crate::store;

/// A decider that is stepped by hand. After an error it has ended, as the thread would have.
pub struct Stepper {
    core: Core,
}

impl Stepper {
    /// Loads the state, takes the lease, and takes the turn in which the engine is told that it started.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn start(options: Options) -> Result<Self, store::Error> {
        let (mut core, restored) = Core::load(options)?;
        // How long deciding takes must not change what is decided together.
        core.patience = Duration::MAX;
        core.turn(Some(Input::Started { restored }))?;
        Ok(Self { core })
    }

    /// Takes a turn of these inputs; of none, the time is told. The answers are those that the senders of the inputs
    /// would get, in the order of the inputs.
    ///
    /// # Errors
    /// The store failed: what is durable is told by opening it again.
    pub fn turn(&mut self, inputs: Vec<Input>) -> Result<Vec<Result<Reply, Failed>>, store::Error> {
        self.core.look_after_store()?;
        let mut answers = Vec::with_capacity(inputs.len());
        for input in inputs {
            let (answer, answered) = oneshot::channel();
            let lane = if matches!(input, Input::Request { .. }) { Lane::Urgent } else { Lane::Ordinary };
            let item = Item::Step { input, answer: Answer::Request(answer) };
            if self.core.shared.queue.try_push(lane, item).is_ok() {
                answers.push(answered);
            }
        }
        self.core.next_turn()?;
        let none = || Unavailable("it was not decided".to_owned()).into();
        Ok(answers.into_iter().map(|mut answer| answer.try_recv().unwrap_or_else(|_| Err(none()))).collect())
    }

    /// When it wants a turn although nothing has come.
    pub fn wake(&self) -> Option<Timestamp> {
        self.core.wake
    }

    /// Its time.
    pub fn now(&self) -> Timestamp {
        self.core.shared.clock.now()
    }

    /// The state after the newest commit.
    pub fn state(&self) -> Arc<State> {
        self.core.state.clone()
    }
}

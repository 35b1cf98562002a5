//! One turn: what waits is decided, committed as one batch, and only then told.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use quell_engine::{
    Change, Effect, Input, State, Windows,
    input::{Refusal, Reply},
};

use super::{
    Core, describe,
    handle::{Answer, Item, Unavailable},
};
use crate::store;

/// A turn takes at most this many inputs, so that one commit stays small.
const MOST_INPUTS: usize = 512;

/// Once something is to be committed, a turn takes no further inputs after this long: whoever is to be restarted does not
/// wait for the samples of everybody else.
pub(super) const LONGEST_DECIDING: Duration = Duration::from_millis(1);

/// After a turn that could not be recorded, everything is looked at again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// What comes after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another one.
    Turn,
    /// Nothing: somebody asked for the end.
    Stop,
}

/// What a turn has led to so far.
struct Turn {
    state: State,
    changes: Vec<Change>,
    effects: Vec<Effect>,
    answers: Vec<(Answer, Option<Result<Reply, Refusal>>)>,
    wake: Option<Timestamp>,
}

impl Core {
    /// Takes one turn, which begins with `first`.
    pub(super) fn turn(&mut self, first: Option<Input>) -> Result<Next, store::Error> {
        let began = Instant::now();
        let state = State::clone(&self.state);
        let mut turn = Turn { state, changes: vec![], effects: vec![], answers: vec![], wake: self.wake };
        if matches!(first, Some(Input::Tick)) {
            // This is what it woke for; the engine names the next time.
            turn.wake = None;
        }
        let now = self.shared.clock.now();
        let jump = self.shared.clock.take_jump().map(|seconds| Input::ClockJumped { seconds });
        // Nothing comes before the start; otherwise a jump is known before anything is decided by the new time.
        let is_start = matches!(first, Some(Input::Started { .. }));
        let (before, after) = if is_start { (first, jump) } else { (jump, first) };
        for input in before.into_iter().chain(after) {
            self.step(&mut turn, now, input, Answer::Nobody)?;
        }
        let mut next = Next::Turn;
        for _ in 0..MOST_INPUTS {
            if !turn.changes.is_empty() && began.elapsed() > self.patience {
                break;
            }
            match self.shared.queue.pop() {
                Some(Item::Step { input, answer }) => {
                    let now = self.shared.clock.now();
                    self.step(&mut turn, now, input, answer)?;
                }
                Some(Item::Note { change, answer }) => {
                    // What writes rows is decided by the engine alone.
                    let change = Change { time: self.shared.clock.now(), writes: Vec::new(), ..*change };
                    turn.changes.push(change);
                    turn.answers.push((answer, None));
                }
                Some(Item::Question(question)) => question(&self.windows, &turn.state, self.shared.clock.now()),
                Some(Item::Stop) => {
                    next = Next::Stop;
                    break;
                }
                None => break,
            }
        }
        self.finish(turn)?;
        Ok(next)
    }

    /// A turn of one input, which somebody waits for.
    pub(super) fn turn_with(&mut self, input: Input, answer: Answer) -> Result<(), store::Error> {
        let state = State::clone(&self.state);
        let mut turn = Turn { state, changes: vec![], effects: vec![], answers: vec![], wake: self.wake };
        let now = self.shared.clock.now();
        self.step(&mut turn, now, input, answer)?;
        self.finish(turn)
    }

    fn step(&mut self, turn: &mut Turn, now: Timestamp, input: Input, answer: Answer) -> Result<(), store::Error> {
        let step = (self.engine)(&mut self.windows, &turn.state, now, input);
        for change in &step.changes {
            for write in &change.writes {
                turn.state.apply(write)?;
            }
        }
        turn.changes.extend(step.changes);
        for effect in step.effects {
            match effect {
                Effect::WakeAt(at) => turn.wake = Some(at),
                effect => turn.effects.push(effect),
            }
        }
        turn.answers.push((answer, step.reply));
        Ok(())
    }

    /// Commits and tells. A refused commit drops the turn.
    fn finish(&mut self, turn: Turn) -> Result<(), store::Error> {
        match self.commit(turn.changes, turn.state) {
            Ok(()) => {
                self.wake = turn.wake;
                turn.effects.into_iter().for_each(|effect| self.effects.release(effect));
                turn.answers.into_iter().for_each(|(answer, reply)| tell(answer, reply));
                Ok(())
            }
            Err(error @ (store::Error::Full { .. } | store::Error::TooLarge { .. })) => {
                let reason = describe(&error);
                tracing::error!(reason, "nothing was decided");
                // They hold what the dropped turn made of them: what was due then would never be due again.
                self.windows = Windows::default();
                let soon = self.shared.clock.now().checked_add(RETRY).unwrap_or(Timestamp::MAX);
                self.wake = Some(self.wake.map_or(soon, |wake| wake.max(soon)));
                turn.answers.into_iter().for_each(|(answer, _)| sorry(answer, &reason));
                Ok(())
            }
            Err(error) => {
                let reason = describe(&error);
                turn.answers.into_iter().for_each(|(answer, _)| sorry(answer, &reason));
                Err(error)
            }
        }
    }
}

/// Whoever waits may have gone; that changes nothing.
fn tell(answer: Answer, reply: Option<Result<Reply, Refusal>>) {
    match answer {
        Answer::Nobody => {}
        Answer::Durable(answer) => drop(answer.send(Ok(()))),
        Answer::Request(answer) => drop(answer.send(reply.unwrap_or(Ok(Reply::Done)).map_err(Into::into))),
    }
}

fn sorry(answer: Answer, reason: &str) {
    let unavailable = Unavailable(reason.to_owned());
    match answer {
        Answer::Nobody => {}
        Answer::Durable(answer) => drop(answer.send(Err(unavailable))),
        Answer::Request(answer) => drop(answer.send(Err(unavailable.into()))),
    }
}

//! The engine: a state machine that decides, and nothing else.
//!
//! [`step`] takes what is known, the time and what happened, and answers with the changes to be recorded and the
//! effects to be carried out once those are committed. It has no clock, randomness, I/O, async or globals, so the live
//! controller, the simulator, back-tests, `quell why` and every test run this same code.

pub mod change;
pub mod effect;
pub mod id;
pub mod input;
pub mod state;
pub mod windows;

pub use change::{Actor, Change, Ids, Write};
pub use effect::Effect;
pub use input::Input;
pub use state::State;
pub use windows::Windows;

/// What one input led to.
#[derive(Debug, Default)]
pub struct Step {
    /// Changes in the order in which they are to be recorded. All of one step are committed together or not at all.
    pub changes: Vec<Change>,
    /// What is to be done once the changes are durable.
    pub effects: Vec<Effect>,
    /// What the caller is told: the answer to [`Input::Request`].
    pub reply: Option<Result<input::Reply, input::Refusal>>,
}

/// Decides.
///
/// `state` is what all committed changes made of it; the caller applies the changes of the returned [`Step`] with
/// [`State::apply`] once they are durable, or drops them. `now` never goes back.
pub fn step(_windows: &mut Windows, _state: &State, _now: jiff::Timestamp, _input: Input) -> Step {
    Step::default()
}

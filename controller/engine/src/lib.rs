//! The engine: a state machine that decides, and nothing else.
//!
//! [`step`] takes what is known, the time and what happened, and answers with the changes to be recorded and the
//! effects to be carried out once those are committed. It has no clock, randomness, I/O, async or globals, so the live
//! controller, the simulator, back-tests, `quell why` and every test run this same code.
//!
//! An input touches subjects (hosts, alerts, timetables, plans, incidents, messages); each is reconciled from the state,
//! touching others in turn, until nothing is left. A start is every subject touched at once, so the restart path is the
//! normal one.

pub mod change;
pub mod effect;
pub mod explain;
pub mod id;
pub mod input;
pub mod invariants;
pub mod shadow;
pub mod state;
pub mod table;
pub mod windows;

mod alert;
mod approval;
mod breaker;
mod draft;
mod escalate;
mod expect;
mod external;
mod fault;
mod guard;
mod host;
mod incident;
mod ladder;
mod ledger;
mod limits;
mod message;
mod newer;
mod plan;
mod request;
mod retention;
mod schedule;
mod scope;
mod service;
mod session;
mod signal;
mod tell;
mod text;
mod trust;
mod turn;
mod values;
mod verdict;

pub use breaker::effective_mode;
pub use change::{Actor, Change, Ids, Write};
pub use effect::Effect;
pub use explain::{Explanation, explain};
pub use input::Input;
pub use invariants::{Violation, check};
pub use limits::signed_limits;
pub use newer::{Newer, Versioned, newer};
pub use state::State;
pub use trust::{referenced, signing_warnings};
pub use windows::Windows;

use draft::{Draft, Entry};
use turn::Turn;

/// What one input led to.
#[derive(Debug, Default)]
pub struct Step {
    /// Changes in the order in which they are to be recorded. All of one step are committed together or not at all.
    pub changes: Vec<Change>,
    /// What is to be done once the changes are durable.
    pub effects: Vec<Effect>,
    /// What the caller is told: the answer to [`Input::Request`].
    pub reply: Option<Result<input::Reply, input::Refusal>>,
    /// The state with the changes: what [`State::apply`] makes of their writes, without reading them again.
    pub state: State,
}

/// Decides.
///
/// `state` is what all committed changes made of it; the caller goes on with the returned state, or applies the changes
/// with [`State::apply`], or, when they could not be made durable, drops them together with `windows`. `now` never goes
/// back: an earlier time counts as the latest one seen.
pub fn step(windows: &mut Windows, state: &State, now: jiff::Timestamp, input: Input) -> Step {
    let mut turn = Turn::begin(windows, state, now);
    let reply = take(&mut turn, state, input);
    turn.settle();
    turn.finish(reply)
}

/// Takes in what happened.
fn take(turn: &mut Turn<'_>, state: &State, input: Input) -> Option<Result<input::Reply, input::Refusal>> {
    match input {
        Input::Started { restored } => started(turn, restored),
        Input::Tick => {}
        Input::ClockJumped { seconds } => clock_jumped(turn, seconds),
        Input::Connected { host, hello } => session::connected(turn, &host, &hello),
        Input::Disconnected { host } => session::disconnected(turn, &host),
        Input::Samples { host, samples } => session::samples(turn, &host, samples),
        Input::Begun { host, command } => session::begun(turn, &host, command),
        Input::Ended { host, command, outcome, ended_at, sequence } => {
            session::ended(turn, &host, command, outcome, ended_at, sequence);
        }
        Input::Previewed { host, command, preview } => plan::preview::answered(turn, &host, command, preview),
        Input::LogTail { message, host, lines } => message::add_log(turn, message, host.as_str(), lines),
        Input::Delivered { message, result } => message::delivered(turn, message, result),
        Input::HostHeld { host, hold } => session::host_held(turn, &host, hold),
        Input::Request { actor, request } => {
            let reply = request::grant(turn, &actor, *request);
            if reply.is_err() {
                // Requests look before they change anything; should one have missed something, nothing of it stays.
                turn.draft = Draft::new(state, turn.now);
            }
            return Some(reply);
        }
    }
    None
}

/// The controller started; after a restore it only observes until a person says otherwise.
fn started(turn: &mut Turn<'_>, restored: bool) {
    let text = if restored { "started from a backup" } else { "started" };
    if restored {
        turn.draft.change_meta(|meta| {
            meta.epoch += 1;
            meta.observe_only = Some("the state was restored from a backup; look, then `quell thaw --all`".to_owned());
        });
    }
    turn.record(Entry::new("started", Actor::Controller, text));
}

/// The wall clock jumped: nothing new starts until a person has explained it.
fn clock_jumped(turn: &mut Turn<'_>, seconds: f64) {
    let reason = format!("the clock jumped by {seconds:+.0} s");
    turn.draft.change_meta(|meta| meta.clock_suspect = Some(reason.clone()));
    turn.record(Entry::new("clockJumped", Actor::Controller, format!("{reason}; new plans are held")));
    turn.touch_live();
}

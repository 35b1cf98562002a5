//! What operators call: `OperatorService`, one file per group of calls.
//!
//! Who may call what stands in the link's table and was checked before a call comes here. A handler validates what came,
//! asks the decider or reads the state that it published, and answers with views.

mod apply;
mod argument;
mod audit;
mod change;
mod decide;
pub mod enrolment;
mod events;
pub mod gate;
mod grant;
mod operator;
mod page;
mod read;
pub mod refusals;
pub mod status;
mod trust;
pub mod view;
mod why;

pub use self::{
    enrolment::Enrolments,
    gate::Gate,
    operator::{Context, Operators},
    refusals::Refusals,
};

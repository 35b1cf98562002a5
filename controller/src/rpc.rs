//! What operators call: `OperatorService`, one file per group of calls.
//!
//! Who may call what stands in the link's table and was checked before a call comes here. A handler validates what came,
//! asks the decider or reads the state that it published, and answers with views.

pub mod gate;
pub mod status;

pub use self::gate::Gate;

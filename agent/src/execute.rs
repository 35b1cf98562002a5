//! Carrying out orders: one at a time for each resource, journaled, at most once.
//!
//! Intent (synced) → effect → outcome (synced). An order that was seen before has no effect; it is answered with the
//! outcome that the journal holds. After a crash, what can be repeated is looked at again and goes on; what cannot is
//! verified and becomes unknown.

use quell_wire::v1;
use tokio::sync::mpsc;

/// Reports that wait for the session; when nobody takes them, orders wait as well.
pub const REPORT_CAPACITY: usize = 256;

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

//! Where timetables are in time.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A schedule's place in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleRow {
    /// The last due time that was run, skipped or given up.
    pub last_due: Timestamp,
    /// The last time a plan of it succeeded: what `expect` judges.
    pub last_success: Option<Timestamp>,
    /// When the policy came into force.
    pub since: Timestamp,
}

//! Alerts that other systems tell of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_model::selector::Labels;
use serde::{Deserialize, Serialize};

/// What another system says of a policy's alert on a target. There is a row while it says that something fires, or may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRow {
    /// The alerts that fire, by the other system's fingerprint of each.
    pub firing: BTreeMap<String, ExternalAlert>,
    /// When it told of more than are kept, last: until that is stale nobody knows that nothing fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflowed_at: Option<Timestamp>,
}

/// One alert that fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAlert {
    /// Who told of it.
    pub source: String,
    /// Its labels.
    pub labels: Labels,
    /// When it was told of first,
    pub since: Timestamp,
    /// and last.
    pub told_at: Timestamp,
}

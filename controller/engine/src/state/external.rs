//! Alerts that other systems tell of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_model::selector::Labels;
use serde::{Deserialize, Serialize};

/// What another system says of a policy's alert on a target. There is a row while it says that something fires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRow {
    /// The alerts that fire, by the other system's fingerprint of each.
    pub firing: BTreeMap<String, ExternalAlert>,
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

//! Holds and freezes that people made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{id::WindowId, input::HoldScope};

/// A hold or freeze that a person made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowRow {
    /// Its number.
    pub id: WindowId,
    /// What it covers.
    pub scope: HoldScope,
    /// From,
    pub from: Timestamp,
    /// until.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who.
    pub who: String,
}

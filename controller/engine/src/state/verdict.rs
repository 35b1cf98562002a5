//! What a policy makes of a target, and why nothing is done.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_model::value::Truth;
use serde::{Deserialize, Serialize};

/// A "no": the first guard that said it, why, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The guard: `cooldown`, `calendar`, `disturb`, `budget`, `freeze`, `require`, `resource`, `quorum`, ….
    pub guard: String,
    /// Why, for people.
    pub reason: String,
    /// Until when, where that is known.
    pub until: Option<Timestamp>,
    /// Since when.
    pub since: Timestamp,
}

/// A policy's verdict on a target, recorded when it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerdictRow {
    /// In one word.
    pub verdict: Verdict,
    /// Since when.
    pub since: Timestamp,
    /// The first guard that said no.
    pub first_no: Option<Hold>,
    /// The signals and what they were.
    pub signals: BTreeMap<String, Truth>,
}

/// What a policy makes of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The symptom is there and an act was started.
    Fired,
    /// The symptom is there and a guard says no.
    Held,
    /// The symptom is there, but not for long enough.
    Pending,
    /// The symptom is not there.
    NotFiring,
    /// Samples are missing.
    Unknown,
    /// The symptom is there and the policy only observes.
    ObserveOnly,
    /// A plan waits for people.
    AwaitingApproval,
}

//! What is known durably: everything that follows from the records.
//!
//! Rows are plain data with serde; a row's JSON is what the log holds and what sled holds. Fields are only ever added,
//! with a default, so that an older log can be read for ever. Maps are persistent ([`imbl`]): a copy of the state costs
//! nothing, so a step decides on a copy and the caller may drop it.

mod alert;
mod assignment;
mod command;
mod external;
mod host;
mod incident;
mod ledger;
mod manifest;
mod message;
mod operator;
mod plan;
mod schedule;
mod shadow;
mod trust;
mod verdict;
mod window;

use std::{collections::BTreeMap, sync::Arc};

use imbl::{OrdMap, OrdSet};
use quell_model::name::{FullName, HostName, Target};
use serde::{Deserialize, Serialize};

use crate::id::{CommandId, IncidentId, MessageId, PlanId, TokenId, WindowId};

pub use self::{
    alert::{AlertRow, AlertState},
    assignment::Assignment,
    command::{CommandRow, CommandState, Look, Outcome, OutcomeKind, Preview},
    external::{ExternalAlert, ExternalRow},
    host::{HostRow, HostState},
    incident::{Called, Cause, IncidentRow, IncidentState, Note, Told},
    ledger::{BreakerRow, LedgerRow, OnceRow},
    manifest::StoredManifest,
    message::{Message, MessageState},
    operator::{OperatorRow, TokenRow},
    plan::{AlsoDisturbed, Concern, DisturbLimit, Instead, Needs, PlanRow, PlanState, PlannedOnce, Vote},
    schedule::ScheduleRow,
    shadow::ShadowRow,
    trust::{RunEvidence, SetRow, SignedDocument, TrustRow},
    verdict::{Hold, Verdict, VerdictRow},
    window::WindowRow,
};
pub use crate::{
    invariants::{Violation, check},
    table::Unreadable,
};

/// The tables of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Table {
    /// One row, `meta`: counters, epoch, fence.
    Meta,
    /// Manifests by `Kind/namespace/name`.
    Manifests,
    /// Hosts by name.
    Hosts,
    /// Operators by name.
    Operators,
    /// Join tokens by number.
    Tokens,
    /// Alerts by `namespace/name target`.
    Alerts,
    /// Incidents by number.
    Incidents,
    /// Plans by number.
    Plans,
    /// Commands by number.
    Commands,
    /// Holds and freezes that people made, by number.
    Windows,
    /// Messages by number.
    Messages,
    /// Acts that count against cool-downs and budgets, by command number.
    Ledger,
    /// Breakers and policies' own faults, by policy.
    Breakers,
    /// The verdict of each policy on each target, by the alert's key.
    Verdicts,
    /// What may happen only once, by policy and key.
    Onces,
    /// When schedules last ran and were due, by the alert's key.
    Schedules,
    /// Whom hosts believe, by version.
    Trust,
    /// Signed sets by namespace.
    Sets,
    /// What policies that may not act would have done, by policy and what it is about.
    Shadows,
    /// What other systems say of alerts, by the alert's key.
    Externals,
}

/// Everything that is known durably. A copy is a pointer: one that nobody changes is the very same state, and says so at
/// the cost of comparing two pointers.
#[derive(Debug, Clone, Default)]
pub struct State(Arc<Tables>);

impl std::ops::Deref for State {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.0
    }
}

impl std::ops::DerefMut for State {
    fn deref_mut(&mut self) -> &mut Tables {
        Arc::make_mut(&mut self.0)
    }
}

impl State {
    /// Whether this is the very same copy: a cheap question whose "no" means nothing.
    pub fn is_same_copy(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The tables of a state. Copied when a copy of the state is changed; the maps themselves are shared.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// Counters, epoch, fence.
    pub meta: Arc<Meta>,
    /// Manifests by kind and name.
    pub manifests: OrdMap<(String, FullName), Arc<StoredManifest>>,
    /// Hosts by name.
    pub hosts: OrdMap<HostName, Arc<HostRow>>,
    /// Operators by name.
    pub operators: OrdMap<String, Arc<OperatorRow>>,
    /// Join tokens.
    pub tokens: OrdMap<TokenId, Arc<TokenRow>>,
    /// Alerts by policy and target.
    pub alerts: OrdMap<(FullName, Target), Arc<AlertRow>>,
    /// Incidents.
    pub incidents: OrdMap<IncidentId, Arc<IncidentRow>>,
    /// Plans.
    pub plans: OrdMap<PlanId, Arc<PlanRow>>,
    /// Commands.
    pub commands: OrdMap<CommandId, Arc<CommandRow>>,
    /// Holds and freezes.
    pub windows: OrdMap<WindowId, Arc<WindowRow>>,
    /// Messages.
    pub messages: OrdMap<MessageId, Arc<Message>>,
    /// Acts that count.
    pub ledger: OrdMap<CommandId, Arc<LedgerRow>>,
    /// Breakers.
    pub breakers: OrdMap<FullName, Arc<BreakerRow>>,
    /// Verdicts.
    pub verdicts: OrdMap<(FullName, Target), Arc<VerdictRow>>,
    /// What may happen only once: policy and key, and when it happened.
    pub onces: OrdMap<(FullName, String), Arc<OnceRow>>,
    /// Schedules.
    pub schedules: OrdMap<(FullName, Target), Arc<ScheduleRow>>,
    /// What policies that may not act would have done.
    pub shadows: OrdMap<(FullName, String), Arc<ShadowRow>>,
    /// Alerts that fire as another system says, by policy and target.
    pub externals: OrdMap<(FullName, Target), Arc<ExternalRow>>,
    /// Whom hosts believe, by version; the last one is in force.
    pub trust: OrdMap<u64, Arc<TrustRow>>,
    /// Signed sets by their names: those of policies by the namespace, those of limits by `NAMESPACE/limits`.
    pub sets: OrdMap<String, Arc<SetRow>>,
    /// What follows from the rows and is looked up often; never stored.
    pub live: Live,
}

/// Rows that are not over, and the newest incident of each problem and target. Kept by [`State::put`], never stored.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Incidents that are not resolved.
    pub incidents: OrdSet<IncidentId>,
    /// Plans that have not ended.
    pub plans: OrdSet<PlanId>,
    /// Commands that were sent and have no outcome.
    pub commands: OrdSet<CommandId>,
    /// Messages to be sent.
    pub messages: OrdSet<MessageId>,
    /// The newest incident by problem and target.
    pub latest: OrdMap<(String, Target), IncidentId>,
}

/// Counters and the like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Last number given out, by prefix (`inc`, `plan`, …).
    pub counters: BTreeMap<String, u64>,
    /// Grows at each restore.
    pub epoch: u64,
    /// The highest fence given out.
    pub fence: u64,
    /// Why every policy only observes, if so (after a restore).
    pub observe_only: Option<String>,
    /// Why new plans are held, if so (after a clock jump).
    pub clock_suspect: Option<String>,
    /// Random, made at `init`.
    pub installation: String,
    /// Version of each set, by its name; it only goes up. Of limits signed ones alone count.
    pub set_versions: BTreeMap<String, u64>,
    /// Whether hosts demand signed limits with every order that acts.
    pub limits_demanded: bool,
}

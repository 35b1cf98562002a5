//! Why not: each check has its own answer, which says what happened and what to do.

use jiff::Timestamp;

use super::{Malformed, set::SetName, signers::Refused};
use crate::{
    digest::Digest,
    limits::Passed,
    name::{FullName, HostName, ObjectName, Target},
};

/// Too few people signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// In which namespace.
    pub namespace: String,
    /// How many distinct people it takes.
    pub needed: u32,
    /// Who did.
    pub found: Vec<String>,
    /// Signatures that count for nobody.
    pub refused: Vec<Refused>,
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of the {} people that it takes signed in {}", self.found.len(), self.needed, self.namespace)?;
        if !self.found.is_empty() {
            write!(f, " ({})", self.found.join(", "))?;
        }
        self.refused.iter().try_for_each(|refused| write!(f, "; {refused}"))
    }
}

/// Why something may not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Too few people signed a set or a change of trust.
    #[error("not signed: {0}")]
    Signatures(Lacking),
    /// A document is not what it has to be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// There is more of something than is looked at.
    #[error("{found} {what} are more than the {most} that are looked at")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many came.
        found: usize,
        /// How many may.
        most: usize,
    },
    /// A document is of another installation.
    #[error("the {what} is of installation {found:?}, and this host belongs to {wanted:?}")]
    Installation {
        /// Which document.
        what: &'static str,
        /// Its installation.
        found: String,
        /// The host's own.
        wanted: String,
    },
    /// A set is of another namespace than what is done in its name.
    #[error("the set is of namespace {set}, and the policy is {policy}: sign a set of the policy's namespace")]
    Namespace {
        /// The set's.
        set: ObjectName,
        /// The policy.
        policy: FullName,
    },
    /// A set is too old.
    #[error("version {version} of set {set} expired at {expired}: sign it again with `quell apply`")]
    Expired {
        /// Which set.
        set: SetName,
        /// The version.
        version: u64,
        /// When.
        expired: Timestamp,
    },
    /// A set was made in the future.
    #[error("the set was issued at {issued}, and it is {now} here: look at the clocks of this host and of the signer")]
    NotYet {
        /// When it was made.
        issued: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// A set has been replaced.
    #[error("version {version} of set {set} has been replaced by version {seen}: a roll-back is a new version")]
    OldSet {
        /// Which set.
        set: SetName,
        /// The version that came.
        version: u64,
        /// The highest that was seen.
        seen: u64,
    },
    /// A manifest is not in the set.
    #[error("{what} is not in version {version} of set {set} as it was signed: apply it")]
    NotInSet {
        /// Which one: its kind and name, or the digest of what came.
        what: String,
        /// Which set.
        set: SetName,
        /// The version.
        version: u64,
    },
    /// Something that is needed did not come along.
    #[error("{what} is not among the evidence: the controller has to send it with the command")]
    Missing {
        /// What.
        what: String,
    },
    /// A manifest cannot be read.
    #[error("a manifest of the set cannot be read by this version: {why}")]
    Manifest {
        /// Why.
        why: String,
    },
    /// The plan is not the one that the hash names.
    #[error("the plan's bytes have hash {found}, and the command is for plan {wanted}")]
    PlanHash {
        /// Of the bytes.
        found: Digest,
        /// Of the command.
        wanted: Digest,
    },
    /// The plan is in the name of neither a policy nor an order, or of both.
    #[error("the plan names neither a signed policy nor a signed order, or both: nothing says that it may be done")]
    Nameless,
    /// The command is for somebody else.
    #[error("the command is for host {found}, and this is {host}")]
    OtherHost {
        /// Whom it is for.
        found: HostName,
        /// Who this is.
        host: HostName,
    },
    /// The plan has no such step.
    #[error("step {step} on {host} is not in the plan with this action, parameters and time-out: {why}")]
    NotInPlan {
        /// Its number.
        step: usize,
        /// Where.
        host: HostName,
        /// What differs.
        why: &'static str,
    },
    /// The policy or order does not say so.
    #[error("{name} does not say that: {why}")]
    NotSigned {
        /// The policy, or the order.
        name: String,
        /// What it does not say.
        why: String,
    },
    /// The host is not meant.
    #[error("{host} is not meant by {name}: {why}")]
    OutOfScope {
        /// The host.
        host: HostName,
        /// The policy, or the order.
        name: String,
        /// What its labels lack.
        why: String,
    },
    /// The target is of another kind than the policy judges, or elsewhere.
    #[error("{target} is not a target of {name}")]
    Target {
        /// The target.
        target: Target,
        /// The policy.
        name: FullName,
    },
    /// It may only look.
    #[error("{name} may only observe: {why}")]
    ObserveOnly {
        /// The policy, or the order.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// Limits have to come along, and did not.
    #[error(
        "hosts do nothing in {namespace} without its limits, and none came with the order: apply Limits for {namespace},          signed by a key for quell-limits"
    )]
    NoLimits {
        /// The namespace.
        namespace: ObjectName,
    },
    /// The limits are those of another namespace.
    #[error("the limits that came are those of {found}, and the order is of {wanted}")]
    OtherLimits {
        /// Theirs.
        found: ObjectName,
        /// The order's.
        wanted: ObjectName,
    },
    /// A ceiling is passed.
    #[error("{name}: {passed}")]
    Passed {
        /// The policy, the order or the plan.
        name: String,
        /// What is passed, and where.
        passed: Box<Passed>,
    },
    /// Limits do not let this host be acted on.
    #[error("Limits {limits} do not let {host} be acted on: its own labels are not those of `hosts`")]
    HostLimited {
        /// Whose ceiling.
        limits: FullName,
        /// The host.
        host: HostName,
    },
    /// The plan is a dry run, and the command is not.
    #[error("the plan changes nothing, and the command would: order a plan that is no dry run")]
    DryRun,
    /// Too few people approved.
    #[error("plan {plan} is not approved: {lacking}; approve it with `quell approve`", plan = .plan.short())]
    NotApproved {
        /// The plan.
        plan: Digest,
        /// Who did, and who did not.
        lacking: Lacking,
    },
    /// A change of trust is not the next one.
    #[error("version {found} of the trust root does not follow version {current}: sign version {next}", next = current + 1)]
    RootVersion {
        /// The version that came.
        found: u64,
        /// The current one.
        current: u64,
    },
    /// A change of trust would be the last one.
    #[error(
        "with this trust root {able} people could sign the next change of it, and it takes {needed}: name more keys for \
         quell-trust"
    )]
    Unchangeable {
        /// How many could.
        able: usize,
        /// How many it takes.
        needed: u32,
    },
}

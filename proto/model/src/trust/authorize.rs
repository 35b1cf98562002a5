//! Whether a command may be carried out on this host: the question behind every one of them.
//!
//! The checks come in a fixed order, and the first that fails is the answer: signatures, installation, time, version,
//! manifests in the set, plan, step, policy, scope, mode, approvals, limits. Nothing is taken from the controller but what is
//! signed or follows from what is signed: it chooses when, and among frozen values inside their signed bounds.

mod limits;
mod order;
mod policy;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Map, Value};

use super::{
    Believed, Denied,
    approvals::Vote,
    run::{self, Run},
    set::{Authority, SetName, SignedSet, VerifiedSet},
    signers::Signer,
};
use crate::{
    calendar::Calendar,
    digest::Digest,
    limits::Limits,
    manifest,
    name::{FullName, HostName, ObjectName, Target},
    plan::{ExactPlan, PlannedStep},
    policy::{ApprovalRule, Manifest, Policy},
    selector::Labels,
};

/// How long after its set's expiry what was begun may still be undone and brought to its end.
const RECOVERY: SignedDuration = SignedDuration::from_hours(24);
/// Manifests that are looked at with one command: a policy, its service, their calendars, and room to grow.
const MOST_MANIFESTS: usize = 8;
/// Manifests that are kept as they were read; beyond that it begins again.
const MOST_KNOWN: usize = 64;

/// What a host believes, durably and by itself.
#[derive(Debug, Clone, Copy)]
pub struct Belief<'a> {
    /// The installation that it joined.
    pub installation: &'a str,
    /// Its name.
    pub host: &'a HostName,
    /// Its labels.
    pub labels: &'a Labels,
    /// Who may sign what.
    pub root: &'a Believed,
    /// The highest version of each set that it has seen.
    pub set_versions: &'a BTreeMap<SetName, u64>,
    /// Whether it has begun a step of the plan that it is asked about.
    pub begun: bool,
    /// The time.
    pub now: Timestamp,
    /// The zone of times in `allowed_signers` that have no `Z`.
    pub zone: &'a TimeZone,
}

/// What a host is told to do, and the evidence that it may.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Whom the command is for.
    pub host: &'a HostName,
    /// The step's place in the rung: the steps of `do`, then those of `finally`, from 0.
    pub step: usize,
    /// The action.
    pub action: &'a str,
    /// Its parameters, with every value filled in.
    pub parameters: &'a Map<String, Value>,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether the step is to be undone rather than done.
    pub undo: bool,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
    /// Whether the host is only asked what it would touch.
    pub preview_only: bool,
    /// The hash of the plan.
    pub plan_hash: Digest,
    /// The plan's canonical bytes.
    pub plan: &'a [u8],
    /// Signed approvals of the plan.
    pub approvals: &'a [Vote],
    /// The set in whose name it is done.
    pub set: &'a SignedSet,
    /// Canonical bytes of the policy or the person's order, and of the service and the calendars that the policy names.
    pub manifests: &'a [String],
    /// The limits that bound it.
    pub limits: Option<&'a SignedLimits>,
}

/// A namespace's limits with what people signed of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignedLimits {
    /// The set of limits.
    pub set: SignedSet,
    /// Canonical bytes of every one that stands in it.
    pub manifests: Vec<String>,
}

/// The limits by which something may be done, all of which hold.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The namespace.
    pub namespace: ObjectName,
    /// The version of their set: the highest seen from now on.
    pub version: u64,
    /// The digest of their set.
    pub digest: Digest,
    /// The limits.
    pub limits: Vec<Arc<Limits>>,
}

impl Order<'_> {
    /// Whether it changes something.
    fn acts(&self) -> bool {
        !self.dry_run && !self.preview_only
    }
}

/// In whose name something is done.
#[derive(Debug, Clone)]
pub enum Mandate {
    /// A policy's, by one of its rungs.
    Policy {
        /// The policy.
        policy: Arc<Policy>,
        /// The place of the rung on its ladder.
        rung: usize,
    },
    /// A person's.
    Run(Arc<Run>),
}

/// That something may be done, and what is still to be seen to by whoever has a memory.
#[derive(Debug, Clone)]
pub struct Warrant {
    /// The namespace of the set.
    pub namespace: ObjectName,
    /// Its version: the highest seen from now on. 0 for a one-shot.
    pub set_version: u64,
    /// Its digest. A second set with the same version and another digest is a fork.
    pub set_digest: Digest,
    /// When it expires.
    pub set_expires: Timestamp,
    /// Its identifier, when it is good for one plan only: this plan, and none with another hash.
    pub one_shot: Option<String>,
    /// Who signed it.
    pub signers: Vec<Signer>,
    /// In whose name it is done.
    pub mandate: Mandate,
    /// The plan.
    pub plan: ExactPlan,
    /// What is to be cured: cool-downs hang on it.
    pub target: Target,
    /// Least time between two acts on the target; nothing for a person's order.
    pub cooldown: Duration,
    /// All of them must be open for something to start.
    pub calendars: Vec<Arc<Calendar>>,
    /// An approval that is needed while its condition holds, and was not given.
    pub conditional_approval: Option<ApprovalRule>,
    /// The limits that bound it: their calendars and budgets are still to be seen to. Absent where there are none, and
    /// where nothing is begun.
    pub bounds: Option<Bounds>,
    /// What people chose, when they were asked and their signatures came along.
    pub choice: Option<String>,
    /// What this host said that it would touch, when that was approved.
    pub preview: Option<Digest>,
    /// Whether it is recovery: undo, and the steps of `finally` where the host has begun a step of the plan. Calendars
    /// and cool-downs do not hold it back. Where nothing was begun there is nothing to bring to its end, and a step of
    /// `finally` is one like any other.
    pub recovery: bool,
}

/// Manifests that were read before, by the digest of their bytes: reading a policy costs three times what all the
/// signatures of a command do, and what the bytes mean does not change.
#[derive(Debug, Clone, Default)]
pub struct Known {
    manifests: BTreeMap<Digest, Manifest>,
}

impl Known {
    /// The meaning of a manifest that stands in a verified set.
    fn manifest(&mut self, text: &str, digest: Digest) -> Result<Manifest, Denied> {
        if let Some(known) = self.manifests.get(&digest) {
            return Ok(known.clone());
        }
        let manifest = read_manifest(text, digest)?;
        if self.manifests.len() >= MOST_KNOWN {
            self.manifests.clear();
        }
        self.manifests.insert(digest, manifest.clone());
        Ok(manifest)
    }
}

/// Decides whether an order may be carried out on this host.
///
/// # Errors
/// The first check that fails.
pub fn authorize(belief: &Belief<'_>, order: &Order<'_>) -> Result<Warrant, Denied> {
    authorize_knowing(belief, order, &mut Known::default())
}

/// Decides as [`authorize()`] does, and reads no manifest twice: for whoever verifies one command after the other.
///
/// # Errors
/// The first check that fails.
pub fn authorize_knowing(belief: &Belief<'_>, order: &Order<'_>, known: &mut Known) -> Result<Warrant, Denied> {
    let verified = order.set.verify_signed(belief.root, belief.now, belief.zone)?;
    let late = check_set(belief, order, &verified)?;
    let evidence = Evidence::read(&verified, order.manifests, known)?;
    let plan = exact(belief, order)?;
    let step = ordered(&plan, order)?;
    let recovery = order.undo || (step.finally && belief.begun);
    if let Some(expired) = late.filter(|_| !recovery) {
        return Err(expired);
    }
    let case = Case { belief, order, verified: &verified, plan: &plan, step, recovery };
    let granted = match (&plan.policy, plan.policy_digest, plan.run) {
        (Some(name), Some(digest), None) => policy::grant(&case, &evidence, name, digest)?,
        (None, None, Some(digest)) => order::grant(&case, &evidence, digest)?,
        _ => return Err(Denied::Nameless),
    };
    let bounds = limits::bound(&case, &granted.mandate, known)?;
    Ok(Warrant {
        namespace: verified.set.namespace.clone(),
        set_version: verified.set.version,
        set_digest: verified.digest,
        set_expires: verified.set.expires,
        one_shot: verified.set.one_shot.clone(),
        signers: verified.signers,
        mandate: granted.mandate,
        target: plan.target.clone(),
        cooldown: granted.cooldown,
        calendars: granted.calendars,
        conditional_approval: granted.conditional_approval,
        bounds,
        choice: granted.choice,
        preview: plan.preview(belief.host, order.step),
        recovery,
        plan,
    })
}

/// Everything that one of the two kinds of mandate looks at.
struct Case<'a> {
    belief: &'a Belief<'a>,
    order: &'a Order<'a>,
    verified: &'a VerifiedSet,
    plan: &'a ExactPlan,
    step: &'a PlannedStep,
    recovery: bool,
}

impl Case<'_> {
    /// What changes something needs a set that may act.
    fn check_authority(&self, name: &str) -> Result<(), Denied> {
        if self.order.acts() && self.verified.authority < Authority::Full {
            let why = "its set is signed in quell-policy.observe only: sign it in quell-policy";
            return Err(Denied::ObserveOnly { name: name.to_owned(), why });
        }
        Ok(())
    }
}

/// What a mandate adds to a warrant.
struct Granted {
    mandate: Mandate,
    cooldown: Duration,
    calendars: Vec<Arc<Calendar>>,
    conditional_approval: Option<ApprovalRule>,
    choice: Option<String>,
}

/// Checks the set against what is believed. One that expired lately comes back as a denial that recovery is spared.
fn check_set(belief: &Belief<'_>, order: &Order<'_>, verified: &VerifiedSet) -> Result<Option<Denied>, Denied> {
    verified.check_installation(belief.installation)?;
    let late = match verified.check_time(belief.now) {
        Err(expired @ Denied::Expired { .. }) if belief.now.duration_since(verified.set.expires) < RECOVERY => {
            Some(expired)
        }
        checked => checked.map(|()| None)?,
    };
    let set = &verified.set;
    let seen = belief.set_versions.get(&set.name()).copied().unwrap_or(0);
    // What was done in the name of an older version can still be undone; the host knows whether it did it.
    if set.one_shot.is_none() && set.version < seen && !order.undo {
        return Err(Denied::OldSet { set: set.name(), version: set.version, seen });
    }
    Ok(late)
}

/// Manifests that came along and stand in the set.
struct Evidence {
    manifests: Vec<Manifest>,
    run: Option<Arc<Run>>,
}

impl Evidence {
    /// Reads what stands in the set; what does not is refused unread.
    fn read(verified: &VerifiedSet, manifests: &[String], known: &mut Known) -> Result<Self, Denied> {
        if manifests.len() > MOST_MANIFESTS {
            return Err(Denied::TooMany { what: "manifests", found: manifests.len(), most: MOST_MANIFESTS });
        }
        let mut evidence = Self { manifests: Vec::new(), run: None };
        for text in manifests {
            let digest = Digest::of(text.as_bytes());
            let not_in_set = |what: String| {
                let set = &verified.set;
                Denied::NotInSet { what, set: set.name(), version: set.version }
            };
            let mut entries = verified.set.manifests.iter().filter(|(_, signed)| **signed == digest);
            let Some((key, _)) = entries.next() else { return Err(not_in_set(format!("manifest {}", digest.short()))) };
            if key.starts_with(run::KIND) {
                let run = Run::parse(text.as_bytes())?;
                if run.key() != *key || verified.set.one_shot.as_deref() != Some(&run.id) {
                    return Err(not_in_set(run.key()));
                }
                evidence.run = Some(Arc::new(run));
                continue;
            }
            let manifest = known.manifest(text, digest)?;
            let own = format!("{}/{}", manifest.kind(), manifest.name().name);
            if own != *key || manifest.name().namespace != verified.set.namespace {
                return Err(not_in_set(format!("{} {}", manifest.kind(), manifest.name())));
            }
            evidence.manifests.push(manifest);
        }
        Ok(evidence)
    }

    /// The manifest of this kind and name.
    fn find(&self, kind: &str, name: &FullName) -> Result<&Manifest, Denied> {
        let mut found = self.manifests.iter().filter(|one| one.kind() == kind && one.name() == name);
        found.next().ok_or_else(|| Denied::Missing { what: format!("{kind} {name}") })
    }
}

fn read_manifest(text: &str, digest: Digest) -> Result<Manifest, Denied> {
    let manifest = manifest::from_signed(text).map_err(|errors| {
        let why: Vec<_> = errors.iter().map(ToString::to_string).collect();
        Denied::Manifest { why: why.join("; ") }
    })?;
    if manifest.digest() != digest {
        return Err(Denied::Manifest { why: "its bytes are not canonical".to_owned() });
    }
    Ok(manifest)
}

/// The plan, which is of this installation and for this host.
fn exact(belief: &Belief<'_>, order: &Order<'_>) -> Result<ExactPlan, Denied> {
    let found = Digest::of(order.plan);
    if found != order.plan_hash {
        return Err(Denied::PlanHash { found, wanted: order.plan_hash });
    }
    let plan = ExactPlan::parse(order.plan)?;
    if plan.installation != belief.installation {
        let wanted = belief.installation.to_owned();
        return Err(Denied::Installation { what: "plan", found: plan.installation, wanted });
    }
    if order.host != belief.host {
        return Err(Denied::OtherHost { found: order.host.clone(), host: belief.host.clone() });
    }
    if plan.dry_run && order.acts() {
        return Err(Denied::DryRun);
    }
    Ok(plan)
}

/// The one step of the plan that is ordered.
fn ordered<'p>(plan: &'p ExactPlan, order: &Order<'_>) -> Result<&'p PlannedStep, Denied> {
    let not_in_plan = |why| Denied::NotInPlan { step: order.step, host: order.host.clone(), why };
    let mut steps = plan.steps_on(order.host, order.step);
    let step = match (steps.next(), steps.next()) {
        (None, _) => return Err(not_in_plan("the plan has no such step there")),
        (Some(_), Some(_)) => return Err(not_in_plan("the plan has it twice")),
        (Some(step), None) => step,
    };
    if step.action != order.action {
        return Err(not_in_plan("its action is another"));
    }
    if !step.has_parameters(order.parameters) {
        return Err(not_in_plan("its parameters are others"));
    }
    if step.timeout() != order.timeout {
        return Err(not_in_plan("its time-out is another"));
    }
    Ok(step)
}

//! What a signed policy says about a step.

use std::{collections::BTreeMap, sync::Arc};

use super::{Case, Evidence, Granted, Mandate};
use crate::{
    calendar::Calendar,
    digest::Digest,
    name::{FullName, ObjectName, Target},
    plan::{self, PlannedStep},
    policy::{ApprovalRule, Manifest, Mode, Policy, Rung, Step, TargetRule},
    selector::{Placement, Selector},
    trust::{
        Denied,
        approvals::{self, ANY_OPERATOR, Question},
    },
    value::Value,
    values,
};

/// The only choice that is no rejection, when no rule says another.
const APPROVE: &str = "approve";

/// Checks a step against the policy in whose name it is done.
pub(super) fn grant(case: &Case<'_>, evidence: &Evidence, name: &FullName, digest: Digest) -> Result<Granted, Denied> {
    let set = &case.verified.set;
    if name.namespace != set.namespace {
        return Err(Denied::Namespace { set: set.namespace.clone(), policy: name.clone() });
    }
    if set.manifests.get(&format!("Policy/{}", name.name)) != Some(&digest) {
        let what = format!("policy {name} with digest {}", digest.short());
        return Err(Denied::NotInSet { what, set: set.name(), version: set.version });
    }
    let Manifest::Policy(policy) = evidence.find("Policy", name)? else {
        return Err(Denied::Missing { what: format!("policy {name}") });
    };
    let (index, rung) = rung_of(case, policy)?;
    let bounded = bounded_values(case, policy);
    let step = signed_step(case, policy, rung, &bounded)?;
    check_target(case, policy)?;
    check_scope(case, policy, rung, step, &bounded)?;
    let asked = check_mode(case, policy, rung)?;
    Ok(Granted {
        mandate: Mandate::Policy { policy: Arc::clone(policy), rung: index },
        cooldown: policy.guards.cooldown,
        calendars: calendars(evidence, policy)?,
        conditional_approval: asked.conditional,
        choice: asked.choice,
    })
}

fn not_signed(policy: &Policy, why: impl Into<String>) -> Denied {
    Denied::NotSigned { name: format!("policy {}", policy.name), why: why.into() }
}

fn rung_of<'p>(case: &Case<'_>, policy: &'p Policy) -> Result<(usize, &'p Rung), Denied> {
    let mut rungs = policy.ladder.iter().enumerate().filter(|(_, rung)| rung.name == case.plan.rung);
    rungs.next().ok_or_else(|| not_signed(policy, format!("there is no rung {:?}", case.plan.rung)))
}

/// The plan's frozen values, as far as they are inside the signed bounds. Nothing else can fill a `$(name)`.
fn bounded_values(case: &Case<'_>, policy: &Policy) -> BTreeMap<String, Value> {
    let frozen = &case.plan.values;
    let within = policy.values.iter().filter_map(|value| {
        let frozen = frozen.get(&value.name)?;
        value.one_of.contains(frozen).then(|| (value.name.clone(), frozen.clone()))
    });
    within.collect()
}

/// The step of the rung that the plan's step is, with the same action, parameters and no more time.
fn signed_step<'p>(
    case: &Case<'_>,
    policy: &Policy,
    rung: &'p Rung,
    bounded: &BTreeMap<String, Value>,
) -> Result<&'p Step, Denied> {
    let planned = case.step;
    let mut steps = rung.steps.iter().map(|step| (step, false)).chain(rung.finally.iter().map(|step| (step, true)));
    let (step, finally) =
        steps.nth(planned.step).ok_or_else(|| not_signed(policy, format!("rung {} has fewer steps", rung.name)))?;
    if finally != planned.finally {
        return Err(not_signed(policy, format!("step {} is not where the plan has it", planned.step)));
    }
    if step.action != planned.action {
        return Err(not_signed(policy, format!("step {} of rung {} is {}", planned.step, rung.name, step.action)));
    }
    let filled = values::fill_object(&step.with, bounded)
        .map_err(|missing| not_signed(policy, format!("{missing}, or outside its `oneOf`")))?;
    if !plan::same(&filled, &planned.with) {
        return Err(not_signed(policy, format!("the parameters of step {} are others", planned.step)));
    }
    if planned.timeout() > step.timeout {
        return Err(not_signed(policy, format!("step {} may take {:?}", planned.step, step.timeout)));
    }
    Ok(step)
}

/// Cool-downs hang on the target, so it has to be one that the policy judges.
fn check_target(case: &Case<'_>, policy: &Policy) -> Result<(), Denied> {
    let fits = matches!(
        (&policy.target, &case.plan.target),
        (TargetRule::Fleet, Target::Fleet)
            | (TargetRule::Host, Target::Host(_))
            | (TargetRule::Each { .. }, Target::Element(..))
    );
    if fits { Ok(()) } else { Err(Denied::Target { target: case.plan.target.clone(), name: policy.name.clone() }) }
}

/// Whether this host is meant, by its own labels.
fn check_scope(
    case: &Case<'_>,
    policy: &Policy,
    rung: &Rung,
    step: &Step,
    bounded: &BTreeMap<String, Value>,
) -> Result<(), Denied> {
    let (host, labels) = (case.belief.host, case.belief.labels);
    let out = |why: String| Denied::OutOfScope { host: host.clone(), name: format!("policy {}", policy.name), why };
    let Some(Placement { selector, pick }) = step.on.as_ref().or(rung.on.as_ref()) else {
        if case.plan.target.host() != Some(host) {
            return Err(out(format!("the step runs on the target's host, and the target is {}", case.plan.target)));
        }
        return if policy.hosts.matches(labels) { Ok(()) } else { Err(out(lacking("`hosts`", &policy.hosts))) };
    };
    let selector = values::fill_selector(selector, bounded)
        .map_err(|missing| not_signed(policy, format!("{missing}, or outside its `oneOf`")))?;
    if !selector.matches(labels) {
        return Err(out(lacking("`on`", &selector)));
    }
    let same = case.plan.steps.iter().filter(|other| other.step == case.step.step);
    let taken = same.flat_map(PlannedStep::hosts).count();
    if pick.is_some_and(|pick| taken > pick as usize) {
        return Err(out(format!("the plan takes {taken} hosts for the step, more than its `pick`")));
    }
    Ok(())
}

fn lacking(field: &str, selector: &Selector) -> String {
    match selector {
        Selector::Labels(labels) => {
            let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{field} wants {}, and its own labels are others", labels.join(", "))
        }
        Selector::All => format!("{field} is all"),
        Selector::Nobody => format!("{field} is nobody"),
    }
}

/// What came of asking people.
#[derive(Default)]
struct Asked {
    conditional: Option<ApprovalRule>,
    choice: Option<String>,
}

/// Whether the policy may go that far, and whether people agreed where they have to.
fn check_mode(case: &Case<'_>, policy: &Policy, rung: &Rung) -> Result<Asked, Denied> {
    let name = format!("policy {}", policy.name);
    case.check_authority(&name)?;
    if !case.order.acts() {
        return Ok(Asked::default());
    }
    if policy.mode == Mode::Observe {
        let why = "its mode is observe: raise it with `quell promote`";
        return Err(Denied::ObserveOnly { name, why });
    }
    if case.recovery {
        return Ok(Asked::default());
    }
    let rule = rung.approval.as_ref();
    if rule.is_some_and(|rule| !rule.signed) || (rule.is_none() && policy.mode != Mode::Propose) {
        return Ok(Asked::default());
    }
    match (decided(case, rule), rule) {
        (Ok(choice), _) => Ok(Asked { conditional: None, choice: Some(choice) }),
        // Whether the condition holds is not for a host to see; whoever keeps a ledger is told.
        (Err(_), Some(rule)) if rule.only_if.is_some() && policy.mode == Mode::Enforce => {
            Ok(Asked { conditional: Some(rule.clone()), choice: None })
        }
        (Err(denied), _) => Err(denied),
    }
}

/// What enough people chose.
fn decided(case: &Case<'_>, rule: Option<&ApprovalRule>) -> Result<String, Denied> {
    let belief = case.belief;
    let question = Question {
        role: rule.map_or(ANY_OPERATOR, |rule| &rule.role),
        plan: case.order.plan_hash,
        requester: case.plan.requester.as_deref(),
    };
    // A choice that tells somebody lets nothing run, whoever signed it.
    let running = |rule: &ApprovalRule| -> Vec<String> {
        rule.choices.iter().filter(|choice| choice.runs()).map(|choice| choice.name.clone()).collect()
    };
    let choices = rule.map_or_else(|| vec![APPROVE.to_owned()], running);
    let needed = rule.map_or(1, |rule| rule.count.max(1));
    approvals::decided(belief.root, &question, &choices, needed, case.order.approvals, belief.now, belief.zone)
        .map(str::to_owned)
}

/// The calendars that the policy and its service name. They have to be there: what is not there counts as closed.
fn calendars(evidence: &Evidence, policy: &Policy) -> Result<Vec<Arc<Calendar>>, Denied> {
    let full = |name: &ObjectName| FullName { namespace: policy.name.namespace.clone(), name: name.clone() };
    let of_service = match &policy.service {
        None => None,
        Some(name) => match evidence.find("Service", &full(name))? {
            Manifest::Service(service) => service.calendar.clone(),
            _ => None,
        },
    };
    let mut calendars = Vec::new();
    for name in policy.guards.calendar.iter().chain(&of_service) {
        if let Manifest::Calendar(calendar) = evidence.find("Calendar", &full(name))? {
            calendars.push(Arc::clone(calendar));
        }
    }
    Ok(calendars)
}

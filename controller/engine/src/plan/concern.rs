//! Whose remedy a person's run is: the policies that would do the same to the same thing. The run waits for their
//! cool-downs, budgets, calendars and limits of disturbance, and counts for them afterwards.

use std::collections::BTreeSet;

use quell_model::{
    name::Target,
    policy::{Mode, Policy},
};

use super::candidate::{exact_steps, limit, resource_on, resources};
use crate::{
    breaker::effective_mode,
    scope::{Notes, View},
    service,
    state::{CommandRow, Concern, PlanRow},
    windows::Compiled,
};

/// The policies that a person's plan concerns, each with the targets that it would act on so.
pub(super) fn of_run(view: View<'_>, plan: &PlanRow, commands: &[CommandRow]) -> Vec<Concern> {
    let actions: BTreeSet<&str> = commands.iter().map(|command| command.action.as_str()).collect();
    let does_such = |policy: &Policy| {
        let mut steps = policy.ladder.iter().flat_map(|rung| &rung.steps);
        steps.any(|step| actions.contains(step.action.as_str()))
    };
    let policies = view.windows.index.policies().filter(|compiled| does_such(&compiled.policy));
    let concern = |compiled: &Compiled| {
        let is_near = |target: &Target| target.host().is_none_or(|host| plan.acts_on(host));
        let targets: Vec<Target> = view
            .targets(compiled)
            .into_iter()
            .filter(|target| is_near(target) && would_do_it(view, compiled, target, plan, &actions))
            .collect();
        let disturb =
            limit(plan, Some(compiled), &service::of_compiled(view, compiled), compiled.policy.guards.disturb);
        (!targets.is_empty()).then(|| Concern { policy: compiled.policy.name.clone(), targets, disturb })
    };
    policies.filter_map(|compiled| concern(compiled)).collect()
}

/// Whether a rung of a policy would act on a thing that the plan acts on. Where a value of the policy is not known, the
/// action alone decides.
fn would_do_it(view: View<'_>, compiled: &Compiled, target: &Target, plan: &PlanRow, actions: &BTreeSet<&str>) -> bool {
    let notes = Notes::default();
    let mut site = view.site(compiled, target, &notes);
    compiled.policy.ladder.iter().any(|rung| {
        if !rung.steps.iter().any(|step| actions.contains(step.action.as_str())) {
            return false;
        }
        site.rung = Some(&rung.name);
        let Ok(steps) = exact_steps(view, rung, target, &site.values()) else { return true };
        steps.iter().filter(|step| !step.finally).any(|step| {
            let resources = resources(&step.action, &step.with);
            let mut held = step.hosts.iter().flat_map(|host| resources.iter().map(|one| resource_on(host, one)));
            held.any(|resource| plan.resources.binary_search(&resource).is_ok())
        })
    })
}

/// Whether a policy of whose remedies a run is one holds it back: one that only observes does nothing that the run could
/// come too close to.
pub(crate) fn binds(view: View<'_>, policy: &Policy) -> bool {
    effective_mode(view.state, view.now, policy) != Mode::Observe
}

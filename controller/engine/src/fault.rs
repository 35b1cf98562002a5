//! Faults of a policy itself: a condition that can never be judged is an incident, not a silence.

use quell_model::{
    name::{FullName, Target},
    policy::Severity,
};

use crate::{
    incident::{self, Opening},
    state::Cause,
    turn::Turn,
    windows::Compiled,
};

/// The name of the problem that a policy's own fault is.
pub(crate) fn problem(policy: &FullName) -> String {
    format!("policy-fault:{policy}")
}

/// Opens an incident for a fault that came up, or resolves it when none did.
pub(crate) fn note(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target, fault: Option<String>) {
    if fault.is_none() && turn.state().live.incidents.is_empty() {
        return;
    }
    let problem = compiled.fault_problem.clone();
    let open = incident::find_open(turn.state(), &problem, target);
    match (fault, open) {
        (Some(fault), None) => {
            incident::open(
                turn,
                compiled,
                Opening {
                    problem,
                    target: target.clone(),
                    cause: Cause::PolicyFault,
                    severity: Severity::Ticket,
                    summary: format!("{} cannot be judged: {fault}", compiled.policy.name),
                },
            );
        }
        (None, Some(incident)) => incident::resolve(turn, incident, "the policy can be judged again"),
        _ => {}
    }
}

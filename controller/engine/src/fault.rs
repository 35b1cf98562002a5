//! Faults of a policy itself: a condition that can never be judged is an incident, not a silence.

use quell_model::{name::Target, policy::Severity};

use crate::{
    incident::{self, Opening},
    state::Cause,
    turn::Turn,
    windows::Compiled,
};

/// The problem's name.
pub(crate) const PROBLEM: &str = "policy-fault";

/// Opens an incident for a fault that came up, or resolves it when none did.
pub(crate) fn note(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target, fault: Option<String>) {
    let problem = format!("{PROBLEM}:{}", compiled.policy.name);
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

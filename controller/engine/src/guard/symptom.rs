//! Never act on resolved, no data, stale or unknown: the symptom must be known to be there at this moment.
//!
//! Before a further wave the symptom of one host is asked again. That of the fleet is not: the plan goes over the fleet
//! because of a symptom that was known, each wave moves what the quorum sees, and a fleet of which half was treated is a
//! state that nobody chose.

use quell_model::{name::Target, policy::Trigger, value::Truth};

use super::Context;
use crate::{
    scope::Notes,
    state::{Hold, IncidentRow},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let compiled = context.compiled?;
    let Trigger::When { when, .. } = &compiled.policy.trigger else { return None };
    if context.plan.started_at.is_some() && context.plan.target == Target::Fleet {
        return None;
    }
    let notes = Notes::default();
    match context.site(compiled, &notes).judge(when) {
        Truth::True => None,
        Truth::False => {
            let is_open = context.incident.is_some_and(IncidentRow::is_open);
            let not_cleared = if is_open { " at the moment, though it has not cleared" } else { "" };
            Some(context.no("symptom", format!("the symptom is not there{not_cleared}"), None))
        }
        Truth::Unknown => {
            Some(context.no("symptom", "whether the symptom is there is unknown: samples are missing or stale", None))
        }
    }
}

//! Whether a signed order may begin now: what depends on the clock and on what this host has seen and done.
//!
//! In this order: the clock, the newest set and unused orders, that it was not done, cool-down, calendars, approvals that
//! depend on a condition. Undo, and the steps of `finally` of a plan that was begun here, are spared the clock, the
//! cool-down, the calendars and the approval; dry runs and previews are asked for the set only.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;
use quell_model::{
    calendar::Calendar,
    condition::{Condition, Derived, Lookup, Reference, Scope},
    name::Target,
    policy::{ApprovalRule, Family},
    trust::{Warrant, authorize::Mandate},
    value::Truth,
};
use quell_wire::v1;

use super::signed::{self, Signed, because};
use crate::{
    actions::Refusal,
    belief::{Beliefs, Ledger, Step},
    clock::ClockOffset,
};

/// How far this host's clock and the controller's may be apart, in seconds.
const CLOCKS: f64 = 60.0;

/// A moment, as the host's clock and the controller's show it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The host's wall clock.
    pub now: Timestamp,
    /// Seconds that it is ahead of the controller's; absent while that is not known.
    pub ahead: Option<f64>,
}

impl Moment {
    /// Now.
    pub fn now(clock: &ClockOffset) -> Self {
        Self { now: Timestamp::now(), ahead: clock.seconds() }
    }
}

/// Asks whether an order that only looks may, and remembers the set that it showed. Blocks.
///
/// # Errors
/// The first check that fails, or what was seen could not be made durable.
pub fn look(beliefs: &Beliefs, moment: Moment, command: &v1::Command, signed: &Signed) -> Result<(), Refusal> {
    let (step, now) = (signed.step(command), moment.now);
    let noted = beliefs.note(|ledger| {
        ledger.check_seen(&step)?;
        Ok(ledger.note_seen(&step, now))
    });
    noted.map_err(|error| because(&error))?.map_err(|held| because(&held))
}

/// Asks whether an order may begin now; nothing is written. Blocks.
///
/// # Errors
/// The first check that fails.
pub fn ask(beliefs: &Beliefs, moment: Moment, command: &v1::Command, signed: &Signed) -> Result<(), Refusal> {
    let now = moment.now;
    let signed = current(beliefs, command, signed, now)?;
    if !signed.warrant.recovery {
        check_clock(moment)?;
    }
    let step = signed.step(command);
    let asked = beliefs.ask(|ledger| {
        ledger.check_act(&step, now).map_err(|held| because(&held))?;
        if signed.warrant.recovery {
            return Ok(());
        }
        check_calendars(&signed.warrant, now)?;
        check_approval(ledger, &step, now)
    });
    asked.map_err(|error| because(&error))?
}

/// Asks the ledger once more, and makes durable that the order begins. Blocks.
///
/// # Errors
/// Something else began meanwhile, or it could not be made durable: then nothing may be done.
pub fn begin(beliefs: &Beliefs, moment: Moment, command: &v1::Command, signed: &Signed) -> Result<(), Refusal> {
    let now = moment.now;
    let signed = current(beliefs, command, signed, now)?;
    let step = signed.step(command);
    let noted = beliefs.note(|ledger| {
        ledger.check_act(&step, now)?;
        ledger.note_act(&step, remembered(&signed.warrant), now);
        Ok(true)
    });
    noted.map_err(|error| because(&error))?.map_err(|held| because(&held))
}

/// Root and labels may have changed while an order waited: then it is verified again.
fn current<'s>(
    beliefs: &Beliefs,
    command: &v1::Command,
    signed: &'s Signed,
    now: Timestamp,
) -> Result<Cow<'s, Signed>, Refusal> {
    if beliefs.generation() == signed.generation {
        return Ok(Cow::Borrowed(signed));
    }
    signed::verify(beliefs, command, now).map(Cow::Owned)
}

/// How long an act has to be remembered for the conditions of the policy's approvals.
fn remembered(warrant: &Warrant) -> Duration {
    let Mandate::Policy { policy, .. } = &warrant.mandate else { return Duration::ZERO };
    let conditions = policy.ladder.iter().filter_map(|rung| rung.approval.as_ref()?.only_if.as_ref());
    let spans = conditions.flat_map(Condition::reads).filter_map(|read| match read {
        Reference::Acted(within) => Some(*within),
        _ => None,
    });
    spans.max().unwrap_or_default()
}

/// Cool-downs, calendars and expiries hang on the time of day.
fn check_clock(moment: Moment) -> Result<(), Refusal> {
    match moment.ahead {
        Some(ahead) if ahead.abs() > CLOCKS => Err(Refusal::because(format!(
            "this host's clock is {:.0} s {} the controller's, so neither expiries nor calendars can be judged: set the \
             clocks right",
            ahead.abs(),
            if ahead > 0.0 { "ahead of" } else { "behind" },
        ))),
        _ => Ok(()),
    }
}

fn check_calendars(warrant: &Warrant, now: Timestamp) -> Result<(), Refusal> {
    let until =
        |calendar: &Calendar| calendar.next_change(now).map_or_else(String::new, |opens| format!(" until {opens:.0}"));
    if let Some(closed) = warrant.calendars.iter().find(|calendar| !calendar.is_open(now)) {
        return Err(Refusal::because(format!("calendar {} is closed{}", closed.name, until(closed))));
    }
    let of_limits =
        warrant.bounds.iter().flat_map(|bounds| &bounds.limits).filter_map(|limits| limits.calendar.as_ref());
    // It bears the name of its limits.
    match of_limits.into_iter().find(|calendar| !calendar.is_open(now)) {
        Some(closed) => Err(Refusal::because(format!("Limits {} are closed{}", closed.name, until(closed)))),
        None => Ok(()),
    }
}

/// An approval that is needed while a condition holds. What this host's own ledger says counts; what only the
/// controller can see is left to it.
fn check_approval(ledger: &Ledger, step: &Step<'_>, now: Timestamp) -> Result<(), Refusal> {
    let Some(ApprovalRule { only_if: Some(condition), role, .. }) = &step.warrant.conditional_approval else {
        return Ok(());
    };
    // A condition that cannot be judged is the policy's fault, and no leave.
    if condition.judge(&Own { ledger, step, now }).unwrap_or(Truth::True) == Truth::True {
        return Err(Refusal::because(format!(
            "by what this host did itself, the plan needs an approval by {role}, and none came that counts; approve it \
             with `quell approve`"
        )));
    }
    Ok(())
}

/// What this host knows by itself: its acts and the plan's frozen values.
struct Own<'a> {
    ledger: &'a Ledger,
    step: &'a Step<'a>,
    now: Timestamp,
}

impl Scope for Own<'_> {
    fn field(&self, _: &str, _: &str) -> Lookup {
        Lookup::Unknown
    }

    fn element(&self, _: &str) -> Lookup {
        Lookup::Unknown
    }

    fn element_name(&self) -> Option<&str> {
        match &self.step.warrant.target {
            Target::Element(_, name) => Some(name),
            Target::Fleet | Target::Host(_) => None,
        }
    }

    fn elements(&self, _: Family) -> Option<Vec<String>> {
        None
    }

    fn derived(&self, _: &Derived) -> Lookup {
        Lookup::Unknown
    }

    fn alert(&self) -> Truth {
        Truth::Unknown
    }

    fn signal(&self, _: &str) -> Truth {
        Truth::Unknown
    }

    fn value(&self, _: &str) -> Lookup {
        Lookup::Unknown
    }

    fn plan(&self, name: &str) -> Lookup {
        self.step.warrant.plan.values.get(name).cloned().map_or(Lookup::Unknown, Lookup::Known)
    }

    fn outcome(&self, _: &str) -> Lookup {
        Lookup::Unknown
    }

    fn acted(&self, within: Duration) -> f64 {
        let plans = self.ledger.acted(self.step, within, self.now);
        f64::from(u32::try_from(plans).unwrap_or(u32::MAX))
    }
}

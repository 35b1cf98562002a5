//! Judging whether the symptom is gone: by samples taken after the act, for as long as the rung says, in time.

use jiff::Timestamp;
use quell_model::{condition::Condition, name::HostName, probe::ProbeKey, value::Truth};

use super::{end, rollout, rung_of, stop};
use crate::{
    Effect,
    id::PlanId,
    scope::Notes,
    state::{PlanRow, PlanState},
    turn::Turn,
    windows::{Compiled, after, before},
};

/// A probe slower than this is run once when its sample is needed.
const SLOW: std::time::Duration = std::time::Duration::from_secs(5);

/// Looks at a plan whose symptom is being judged.
pub(super) fn reconcile(turn: &mut Turn<'_>, id: PlanId) -> Option<Timestamp> {
    let plan = turn.state().plans.get(&id).cloned()?;
    let Some((compiled, rung)) = rung_of(turn, &plan) else {
        end(turn, id, PlanState::Failed, "the policy has changed: nobody can say what was to be verified");
        return None;
    };
    let verify = rung.verify?;
    let acted_at = plan.acted_at.unwrap_or(turn.now);
    let deadline = after(acted_at, verify.within);
    // What is unknown because the controller has just started is no sign that the symptom is still there.
    let latest = turn.windows.warm_at(turn.now).map_or(deadline, |warm| warm.max(deadline));
    probe_once(turn, &plan, &compiled, &verify.that, 0);
    let truth = judge(turn, &plan, &compiled, &rung.name, &verify.that, acted_at);
    let since = match truth {
        Truth::True => Some(plan.verified_since.unwrap_or(turn.now)),
        Truth::False => None,
        Truth::Unknown => plan.verified_since,
    };
    turn.draft.change::<PlanRow>(&id, |row| row.verified_since = since);
    let due = since.map(|since| after(since, verify.stable));
    if truth.holds() && due.is_some_and(|due| turn.now >= due && turn.now <= latest) {
        let how =
            if verify.stable.is_zero() { String::new() } else { format!(" for {}", crate::text::span(verify.stable)) };
        end(turn, id, PlanState::Succeeded, &format!("`{}` held{how}", verify.that.text()));
        return None;
    }
    if turn.now >= latest || (turn.now >= deadline && truth == Truth::False) {
        let span = crate::text::span(verify.within);
        let what = if truth == Truth::Unknown { "was not known to hold" } else { "did not hold" };
        stop::fail(turn, &plan, &format!("`{}` {what} within {span}", verify.that.text()));
        return None;
    }
    if due.is_some_and(|due| turn.now >= due) {
        probe_once(turn, &plan, &compiled, &verify.that, 1);
    }
    let last_chance = before(deadline, SLOW.min(verify.within / 4));
    if turn.now >= last_chance {
        probe_once(turn, &plan, &compiled, &verify.that, 2);
    }
    [due, Some(last_chance), Some(deadline), Some(latest)].into_iter().flatten().filter(|at| *at > turn.now).min()
}

fn judge(
    turn: &Turn<'_>,
    plan: &PlanRow,
    compiled: &Compiled,
    rung: &str,
    that: &Condition,
    acted_at: Timestamp,
) -> Truth {
    let notes = Notes::default();
    let commands = rollout::commands(turn, plan);
    let outcome = commands.iter().rev().find_map(|command| command.outcome.as_ref());
    let mut site = turn.view().site(compiled, &plan.target, &notes);
    site.plan = Some(plan);
    site.outcome = outcome.map(|outcome| &outcome.values);
    site.rung = Some(rung);
    site.after = Some(acted_at);
    site.judge(that)
}

/// Asks for fresh samples of the slow probes that a condition reads, once for each moment of a plan.
fn probe_once(turn: &mut Turn<'_>, plan: &PlanRow, compiled: &Compiled, that: &Condition, moment: u8) {
    if !turn.windows.probed.insert((plan.id, moment)) {
        return;
    }
    for (host, keys) in slow_probes(turn, plan, compiled, that) {
        turn.effect(Effect::ProbeNow { host, keys });
    }
}

fn slow_probes(
    turn: &Turn<'_>,
    plan: &PlanRow,
    compiled: &Compiled,
    that: &Condition,
) -> Vec<(HostName, Vec<ProbeKey>)> {
    let notes = Notes::default();
    let view = turn.view();
    let site = view.site(compiled, &plan.target, &notes);
    let mut wanted: std::collections::BTreeMap<HostName, Vec<ProbeKey>> = std::collections::BTreeMap::new();
    for name in compiled.reads(that) {
        let Some(source) = compiled.probes.get(&name) else { continue };
        if source.every <= SLOW {
            continue;
        }
        for host in site.hosts_of(source) {
            wanted.entry(host).or_default().push(source.key.clone());
        }
    }
    wanted.into_iter().collect()
}

//! A controller that dies at any moment and starts again loses nothing and repeats nothing.

use proptest::prelude::*;
use quell_engine::state::{IncidentState, OutcomeKind};

use super::{
    farm::{Farm, Rules, Way, over},
    judge,
    life::Deed,
};

/// How a step ended: its host, its number and its outcome.
type Done = (String, usize, OutcomeKind);

/// What is left of a life when it is over.
#[derive(Debug, PartialEq)]
struct Ending {
    /// Of each host in order: what was done to it.
    effects: Vec<Vec<String>>,
    /// Of each plan: its target, rung, state and the outcomes by host and step.
    plans: Vec<(String, String, String, Vec<Done>)>,
    /// Of each incident: its target, whether it is over, and how that came.
    incidents: Vec<(String, IncidentState, Option<String>)>,
}

fn ending(farm: &Farm) -> Ending {
    let state = &farm.world.state;
    let action = |key: &String| {
        let command = state.commands.values().find(|command| command.idempotency_key == *key).unwrap();
        format!("{} {}", command.action, command.parameters.get("service").map(ToString::to_string).unwrap_or_default())
    };
    let plan = |plan: &quell_engine::state::PlanRow| {
        let mut outcomes: Vec<Done> = plan
            .commands
            .iter()
            .map(|id| &state.commands[id])
            .map(|command| (command.host.to_string(), command.step, command.outcome.as_ref().unwrap().kind))
            .collect();
        outcomes.sort_by_key(|outcome| (outcome.0.clone(), outcome.1));
        (plan.target.to_string(), plan.rung.clone(), format!("{:?}", plan.state), outcomes)
    };
    let mut ending = Ending {
        effects: farm.world.agents.values().map(|agent| agent.effects.iter().map(action).collect()).collect(),
        plans: farm.world.plans().into_iter().map(plan).collect(),
        incidents: state
            .incidents
            .values()
            .map(|incident| (incident.target.to_string(), incident.state, incident.resolution.clone()))
            .collect(),
    };
    // Which of two servers is looked at first is chance.
    ending.plans.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
    ending.incidents.sort_by(|one, other| one.0.cmp(&other.0));
    ending
}

/// One life, cut short as often as is said, each time after so many seconds.
fn lived(ways: &[Way], fleet: bool, cuts: &[u32]) -> Farm {
    let rules = Rules { hosts: ways.len(), max_errors: 1, settle: 20, over: 1, ..Rules::default() };
    let mut farm = if fleet { Farm::of_fleet(&rules) } else { Farm::of_servers(&rules) };
    for (host, way) in ways.iter().enumerate() {
        farm.acts(host, *way);
    }
    if fleet {
        farm.stock(true);
    } else {
        farm.queue(0, 20);
        farm.queue(2, 20);
    }
    for cut in cuts {
        farm.wait(*cut);
        Deed::Restart.happen(&mut farm);
    }
    farm.wait(3_000);
    farm
}

/// The controller starts five seconds before the symptom has to be gone, and hears only later that it is.
#[test]
fn a_restart_while_the_symptom_is_judged_makes_no_failure_of_what_helped() {
    let ways = [Way::Heals, Way::Heals, Way::Heals, Way::HelpsNothing];
    let (calm, cut) = (lived(&ways, true, &[]), lived(&ways, true, &[80]));
    assert_eq!(ending(&cut), ending(&calm), "{}", cut.world.story());
}

#[test]
fn a_restart_at_any_moment_loses_nothing_and_repeats_nothing() {
    let way = prop_oneof![3 => Just(Way::Heals), 1 => Just(Way::HelpsNothing), 1 => Just(Way::Fails), 1 => Just(Way::NeverEnds)];
    let lives = (prop::collection::vec(way, 3..5), any::<bool>(), prop::collection::vec(0..120_u32, 1..4));
    over(12, &lives, |(ways, fleet, cuts)| {
        let calm = ending(&lived(&ways, fleet, &[]));
        let farm = lived(&ways, fleet, &cuts);
        judge::effects(&farm.world);
        judge::everything_ends(&farm.world);
        assert_eq!(ending(&farm), calm, "with and without {cuts:?}\n{}", farm.world.story());
        calm.effects.iter().map(Vec::len).sum()
    });
}

//! One ledger: a person who does what a policy would do waits for the policy's bounds, and counts for them afterwards.

use quell_engine::{
    input::Reply,
    state::{Hold, PlanState},
};

use super::{
    farm::{EACH, Farm, Rules},
    life::restart,
};

/// Why a person's restart of a unit waits.
fn held(farm: &mut Farm, host: usize, unit: &str) -> Option<Hold> {
    match restart(farm, host, unit) {
        Reply::Plan { hold, .. } => hold,
        other => panic!("{other:?}"),
    }
}

fn guard(hold: Option<&Hold>) -> Option<&str> {
    hold.map(|hold| hold.guard.as_str())
}

/// The policy has repaired the first server just now.
fn repaired(rules: &Rules) -> Farm {
    let mut farm = Farm::of_servers(rules);
    farm.queue(0, 20);
    farm.wait(60);
    assert_eq!(farm.world.plans_in(PlanState::Succeeded).len(), 1, "{}", farm.world.story());
    farm
}

/// What the policy waits for, after a person restarted the first server and its queue grew.
fn waits_after_a_person(rules: &Rules) -> (Farm, Hold) {
    let mut farm = Farm::of_servers(rules);
    assert_eq!(held(&mut farm, 0, "web"), None);
    farm.wait(30);
    farm.queue(0, 20);
    farm.wait(30);
    let [plan] = farm.world.plans_in(PlanState::Held)[..] else { panic!("{}", farm.world.story()) };
    let hold = plan.hold.clone().unwrap();
    (farm, hold)
}

#[test]
fn what_a_person_did_starts_the_policys_cool_down() {
    let (mut farm, hold) = waits_after_a_person(&Rules { cooldown: 600, ..Rules::default() });
    assert_eq!(hold.guard, "cooldown");
    assert!(hold.reason.starts_with("plan-1 of a person acted on web0 at "), "{}", hold.reason);
    farm.wait(600);
    assert_eq!(farm.world.plans_in(PlanState::Succeeded).len(), 2, "{}", farm.world.story());
}

#[test]
fn what_a_person_did_draws_on_the_policys_budgets() {
    let (_, hold) = waits_after_a_person(&Rules { per_target: 1, ..Rules::default() });
    assert_eq!((hold.guard.as_str(), hold.reason.as_str()), ("budget", "1 acts on web0 within 24h are spent"));
    let (_, hold) = waits_after_a_person(&Rules { per_policy: 1, ..Rules::default() });
    assert_eq!(hold.reason, "1 acts of the policy within 24h are spent");
}

#[test]
fn a_person_waits_for_the_policys_cool_down_on_the_same_unit_and_then_goes_on() {
    let rules = Rules { cooldown: 600, disturb: 1_000, ..Rules::default() };
    let mut farm = repaired(&rules);
    let hold = held(&mut farm, 0, "web").unwrap();
    assert_eq!(hold.guard, "cooldown");
    assert!(hold.reason.contains("the cool-down of plants/queue lasts 10m"), "{}", hold.reason);
    // A later rung of the policy restarts the proxy; nothing of it restarts the other.
    assert_eq!(guard(held(&mut farm, 0, "proxy").as_ref()), Some("cooldown"));
    assert_eq!(guard(held(&mut farm, 0, "other").as_ref()), None);
    farm.wait(900);
    let runs = farm.world.plans().into_iter().filter(|plan| plan.policy.is_none());
    let ended: Vec<_> = runs.map(|plan| (plan.id.0, plan.state)).collect();
    assert_eq!(ended[0], (2, PlanState::Succeeded), "{}", farm.world.story());
}

#[test]
fn a_person_waits_for_the_policys_budget_and_calendar() {
    let mut farm = repaired(&Rules { per_policy: 1, ..Rules::default() });
    let hold = held(&mut farm, 0, "web").unwrap();
    assert_eq!(hold.reason, "1 acts of the policy within 24h are spent (plants/queue)");

    let mut farm = Farm::of_servers(&Rules { calendar: true, ..Rules::default() });
    assert_eq!(guard(held(&mut farm, 0, "web").as_ref()), Some("calendar"));
    assert_eq!(held(&mut farm, 0, "other"), None);
    farm.wait(1_800);
    assert_eq!(farm.world.plans_in(PlanState::Succeeded).len(), 2, "it opened: {}", farm.world.story());
}

#[test]
fn a_person_waits_for_the_policys_limit_of_disturbance_where_it_is_the_narrower_one() {
    let mut farm = Farm::of_servers(&Rules { disturb: 1, over: 7_200, ..Rules::default() });
    assert_eq!(held(&mut farm, 0, "web"), None);
    farm.wait(3_700);
    let hold = held(&mut farm, 1, "web").unwrap();
    assert_eq!(hold.guard, "disturb");
    assert!(hold.reason.contains("within 2h"), "{}", hold.reason);
}

#[test]
fn the_hosts_of_a_policy_without_a_service_count_people_too() {
    let rules = Rules { disturb: 1, over: 7_200, ..Rules::default() };
    let alone = EACH.replace("  service: web\n", "");
    let mut farm = Farm::new(&rules, &[&alone]);
    assert_eq!(held(&mut farm, 0, "web"), None);
    farm.wait(30);
    farm.queue(1, 20);
    farm.wait(60);
    let [plan] = farm.world.plans_in(PlanState::Held)[..] else { panic!("{}", farm.world.story()) };
    assert_eq!(guard(plan.hold.as_ref()), Some("disturb"), "{}", farm.world.story());
}

#[test]
fn a_policy_that_only_observes_holds_nobody_back() {
    let rules = Rules { cooldown: 600, per_target: 1, calendar: true, ..Rules::default() };
    let mut farm = Farm::new(&rules, &[&EACH.replace("mode: enforce", "mode: observe")]);
    assert_eq!(held(&mut farm, 0, "web"), None);
    farm.wait(30);
    assert_eq!(held(&mut farm, 0, "web"), None);
}

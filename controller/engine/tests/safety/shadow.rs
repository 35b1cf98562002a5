//! The shadow ledger: a policy that only observes says what it would have done, when it would have, and no more often.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use quell_engine::{
    id::PlanId,
    shadow::{Summary, summary},
    state::PlanState,
};

use super::{
    farm::{EACH, Farm, Rules, Way, over},
    life::rules,
};
use crate::world::World;

/// The policy with its first rung only: what would follow, nobody knows of a policy that observes.
fn one_rung(mode: &str) -> String {
    let lines = EACH.lines().filter(|line| !line.contains("name: second") && !line.contains("name: third"));
    let text: Vec<&str> = lines.collect();
    text.join("\n").replace("mode: enforce", &format!("mode: {mode}"))
}

fn of(world: &World) -> Summary<'_> {
    summary(&world.state, world.now, &"plants/queue".parse().unwrap()).unwrap()
}

fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

#[test]
fn a_policy_that_observes_says_what_it_would_do_and_draws_on_its_own_bounds() {
    let mut farm = Farm::new(&Rules { cooldown: 600, ..Rules::default() }, &[&one_rung("observe")]);
    farm.queue(0, 20);
    farm.wait(120);
    assert!(farm.world.sent().is_empty() && farm.world.plans().is_empty(), "{}", farm.world.story());
    let acted = of(&farm.world).decisions[0].acted_at.unwrap();
    assert_eq!(of(&farm.world).acted, 1, "once for an incident, however long it lasts");
    farm.queue(0, 0);
    farm.wait(60);
    farm.queue(0, 20);
    farm.wait(60);
    let now = of(&farm.world);
    assert_eq!((now.acted, now.waiting), (1, 1));
    assert_eq!(now.decisions[0].hold.as_ref().unwrap().guard, "cooldown");
    farm.wait(600);
    let now = of(&farm.world);
    assert_eq!((now.acted, now.waiting, now.held_by["cooldown"]), (2, 0, 1));
    assert_eq!(now.decisions[0].acted_at, Some(acted + seconds(600)), "{:#?}", now.decisions);
    assert_eq!((now.first, now.last, now.worst_hour), (Some(acted), Some(acted + seconds(600)), Some((acted, 2))));
    assert_eq!(now.hosts.iter().map(|(host, count)| (host.as_str(), *count)).collect::<Vec<_>>(), [("web0", 2)]);
    let told = farm.world.tell(&["shadowActed", "shadowHeld"]);
    assert!(told.contains("would run first (service.restart) on web0; the policy only observes"), "{told}");
    assert!(told.contains("and be held (cooldown): acted on web0"), "{told}");
    assert!(farm.world.sent().is_empty());
}

#[test]
fn what_would_be_held_until_the_symptom_is_gone_would_not_be_done() {
    let mut farm = Farm::new(&Rules { calendar: true, ..Rules::default() }, &[&one_rung("observe")]);
    farm.queue(0, 20);
    farm.wait(60);
    farm.queue(0, 0);
    farm.wait(60);
    farm.wait(3_600);
    let now = of(&farm.world);
    assert_eq!((now.acted, now.waiting, now.dropped, now.held_by["calendar"]), (0, 0, 1, 1));
    assert_eq!(now.decisions[0].dropped.as_deref(), Some("the symptom went away first"));
}

#[test]
fn what_people_let_a_proposing_policy_do_counts_once() {
    let mut farm = Farm::new(&Rules { per_target: 2, ..Rules::default() }, &[&one_rung("propose")]);
    for round in 1..=2 {
        farm.queue(0, 20);
        farm.wait(60);
        let plan = farm.world.plans_in(PlanState::Proposed)[0].id;
        assert_eq!(of(&farm.world).acted, round, "{}", farm.world.story());
        farm.world.approve("ann", &["operator"], plan).unwrap();
        farm.wait(120);
        assert_eq!(farm.world.plans_in(PlanState::Succeeded).len(), round, "{}", farm.world.story());
        // A recurrence within six hours would not begin with the rung that healed.
        farm.wait(7 * 3_600);
    }
    farm.queue(0, 20);
    farm.wait(60);
    assert_eq!(of(&farm.world).held_by["budget"], 1, "two are spent");
}

#[test]
fn a_timetables_runs_are_kept_too() {
    let timetable = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: queue }
spec:
  description: Restarts servers now and then.
  hosts: { matchLabels: { number: '0' } }
  trigger: { schedule: { cron: '*/10 * * * *', timeZone: Europe/Berlin } }
  ladder: [{ name: restart, do: [{ action: service.restart, with: { service: web } }], verify: { that: host.uptime > 0, within: 60s } }]
  guards: { cooldown: 15m }
";
    let mut farm = Farm::new(&Rules::default(), &[timetable]);
    farm.wait(3_600);
    let now = of(&farm.world);
    let times: Vec<Timestamp> = now.decisions.iter().rev().filter_map(|row| row.acted_at).collect();
    assert!(farm.world.sent().is_empty());
    assert!(times.windows(2).all(|pair| pair[1].duration_since(pair[0]) >= seconds(900)), "{times:?}");
    assert!((3..=4).contains(&times.len()), "held by the cool-down, each begins when that ends: {times:?}");
    assert!(now.held_by["cooldown"] >= 2, "{now:#?}");
}

#[test]
fn the_newest_two_hundred_are_kept() {
    let mut farm = Farm::new(&Rules { hosts: 1, ..Rules::default() }, &[&one_rung("observe")]);
    farm.world.compares = false;
    for _ in 0..260 {
        farm.queue(0, 20);
        farm.wait(20);
        farm.queue(0, 0);
        farm.wait(20);
    }
    let now = of(&farm.world);
    assert!((200..=220).contains(&now.decisions.len()), "{}", now.decisions.len());
    assert_eq!(now.since, now.decisions.last().unwrap().wanted_at, "older ones were cut off");
    farm.world.disconnect("web0");
    farm.wait(31 * 86_400);
    assert!(of(&farm.world).decisions.is_empty(), "they are kept for thirty days");
}

/// A server is ill for so many seconds, and then well for so many.
#[derive(Debug, Clone)]
struct Episode {
    server: usize,
    ill: u32,
    well: u32,
}

fn lived(rules: &Rules, mode: &str, episodes: &[Episode]) -> Farm {
    let mut farm = Farm::new(rules, &[&one_rung(mode)]);
    for server in 0..farm.hosts.len() {
        farm.acts(server, Way::HelpsNothing);
    }
    for episode in episodes {
        farm.queue(episode.server, 20);
        farm.wait(episode.ill);
        farm.queue(episode.server, 0);
        farm.wait(episode.well);
    }
    farm
}

/// When a policy began on which target.
fn begun(world: &World, kind: &str) -> Vec<(Timestamp, String)> {
    let records = world.records.iter().filter(|record| record.kind == kind);
    let target = |record: &quell_engine::Change| match record.ids.get("plan") {
        Some(plan) => world.state.plans[&plan.parse::<PlanId>().unwrap()].target.to_string(),
        None => record.ids["target"].clone(),
    };
    records.map(|record| (record.time, target(record))).collect()
}

#[test]
fn it_says_exactly_when_the_policy_would_have_acted() {
    // Long enough to be judged as not helped, and too few to open the breaker: after that the two differ. They do too after
    // a server got well by itself at the moment of an act, which then is taken for what healed it.
    let episode = (0..6_usize, 120..900_u32, 60..600_u32).prop_map(|(server, ill, well)| Episode { server, ill, well });
    let bounds = (rules(), any::<bool>()).prop_map(|(rules, calendar)| Rules { keep_healthy: 0, calendar, ..rules });
    over(24, &(bounds, prop::collection::vec(episode, 1..5)), |(rules, episodes)| {
        let enforced = lived(&rules, "enforce", &episodes);
        let observed = lived(&rules, "observe", &episodes);
        let healed = enforced.world.plans_in(PlanState::Succeeded).iter().filter_map(|plan| plan.ended_at).min();
        let until_then = |world: &World, kind: &str| {
            let mut acts = begun(world, kind);
            acts.retain(|(at, _)| healed.is_none_or(|healed| *at <= healed));
            acts
        };
        let acts = until_then(&enforced.world, "planStarted");
        assert_eq!(until_then(&observed.world, "shadowActed"), acts, "{}", enforced.world.story());
        assert!(observed.world.sent().is_empty());
        acts.len()
    });
}

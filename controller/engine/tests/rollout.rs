//! Waves: what is in flight, when it stops, and what becomes of those whose turn never came.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use std::{collections::BTreeMap, time::Duration};

use quell_engine::{
    Input,
    id::PlanId,
    input::{Reply, Request},
    state::{OutcomeKind, PlanState},
};
use quell_model::selector::Selector;
use world::{Done, World};

fn fleet(hosts: usize) -> World {
    let mut world = World::begin("2026-11-23T10:00:00+01:00");
    for number in 1..=hosts {
        world.join(&format!("web{number:02}"), &[("role", "web")]);
    }
    world.run("1m");
    world
}

fn run(world: &mut World, waves: &[u32], request_id: &str) -> PlanId {
    let web = Selector::labels([("role".to_owned(), "web".to_owned())].into());
    let mut run = world.a_run("exec", web, serde_json::json!({ "argv": ["/bin/true"] }));
    if !waves.is_empty() {
        run.waves = waves.to_vec();
    }
    if !request_id.is_empty() {
        run.id = request_id.to_owned();
    }
    match world.run_by("ada", run) {
        Ok(Reply::Plan { plan, .. }) => plan,
        other => panic!("{other:?}"),
    }
}

fn count(outcomes: &BTreeMap<String, OutcomeKind>, kind: OutcomeKind) -> usize {
    outcomes.values().filter(|outcome| **outcome == kind).count()
}

#[test]
fn waves_ramp_and_settle() {
    let mut world = fleet(8);
    let plan = run(&mut world, &[1, 2, 4], "");
    assert_eq!(world.sent().len(), 1);
    world.run("59s");
    assert_eq!(world.sent().len(), 1, "{:?}", world.sent());
    world.run("5s");
    assert_eq!(world.sent().len(), 3);
    world.run("10m");
    assert_eq!(world.state.plans[&plan].state, PlanState::Succeeded, "{}", world.story());
    let times: Vec<String> = world.sent().iter().map(|line| line[..8].to_owned()).collect();
    assert_eq!(times, ["10:01:00", "10:02:01", "10:02:01", "10:03:02", "10:03:02", "10:03:02", "10:03:02", "10:04:03"]);
}

#[test]
fn the_first_failure_stops_it_and_everybody_has_an_outcome() {
    let mut world = fleet(8);
    world.on(
        "exec",
        |order, _| if order.host.as_str() == "web02" { Done::failed("exit 1") } else { Done::ok().after("5s") },
    );
    let plan = run(&mut world, &[1, 3, 4], "");
    world.run("10m");
    let outcomes = world.outcomes(plan);
    assert_eq!(outcomes.len(), 8, "{outcomes:?}");
    assert_eq!(count(&outcomes, OutcomeKind::Succeeded), 3, "those in flight come to their end: {outcomes:?}");
    assert_eq!(count(&outcomes, OutcomeKind::Failed), 1);
    assert_eq!(count(&outcomes, OutcomeKind::NotStarted), 4);
    assert_eq!(world.state.plans[&plan].state, PlanState::Failed);
}

#[test]
fn max_errors_n_stops_after_exactly_n_plus_one() {
    let policy = |errors: u32| {
        format!(
            "apiVersion: quell/v1\nkind: Policy\nmetadata: {{ namespace: plants, name: sweep }}\nspec:\n  description: sweep\n  mode: enforce\n  hosts: {{ matchLabels: {{ role: web }} }}\n  target: fleet\n  probes: {{ go: {{ command: {{ argv: [/bin/go] }}, on: {{ matchLabels: {{ role: web }}, pick: 1 }}, every: 10s }} }}\n  trigger: {{ when: probe.go.ok }}\n  escalate: {{ to: on-call }}\n  guards: {{ disturb: {{ hosts: 100, percent: 100, over: 1h }} }}\n  ladder:\n    - name: sweep\n      on: {{ matchLabels: {{ role: web }} }}\n      do: [{{ action: exec, with: {{ argv: [/bin/true] }} }}]\n      rollout: {{ waves: [1], settle: 1s, maxErrors: {errors} }}\n      verify: {{ that: '!probe.go.ok', within: 10s }}\n      otherwise: page\n---\napiVersion: quell/v1\nkind: Contact\nmetadata: {{ namespace: plants, name: on-call }}\nspec: {{ via: [log] }}\n"
        )
    };
    for errors in [0, 1, 3] {
        let mut world = fleet(8);
        world.on("exec", |_, _| Done::failed("exit 1"));
        world.apply(&policy(errors));
        world.set("web01", "go", &[("ok", true.into())]);
        world.run("10m");
        assert_eq!(world.sent().len(), errors as usize + 1, "maxErrors {errors}: {}", world.story());
    }
}

#[test]
fn a_freeze_stops_the_next_wave_and_a_thaw_lets_it_go_on() {
    let mut world = fleet(3);
    let plan = run(&mut world, &[1], "");
    world.run("30s");
    let scope = quell_engine::input::HoldScope::Hosts(Selector::All);
    world.ask("bob", Request::Hold { scope, span: Duration::from_secs(3_600), reason: "wait".to_owned() }).unwrap();
    world.run("10m");
    assert_eq!(world.sent().len(), 1, "{}", world.story());
    world.ask("bob", Request::Release { window: None, reason: "go".to_owned() }).unwrap();
    world.run("10m");
    assert_eq!(world.sent().len(), 3, "{}", world.story());
    assert_eq!(world.state.plans[&plan].state, PlanState::Succeeded);
}

#[test]
fn a_request_that_is_repeated_runs_once() {
    let mut world = fleet(2);
    let first = run(&mut world, &[], "request-1");
    let again = run(&mut world, &[], "request-1");
    assert_eq!(first, again);
    assert_ne!(first, run(&mut world, &[], "request-2"));
}

#[test]
fn a_host_that_never_answers_is_unknown_and_stops_the_rest() {
    let mut world = fleet(2);
    world.on("exec", |_, _| Done::never());
    let plan = run(&mut world, &[1], "");
    world.run("5m");
    assert_eq!(world.state.plans[&plan].state, PlanState::Running);
    world.run("10m");
    let outcomes = world.outcomes(plan);
    assert_eq!(count(&outcomes, OutcomeKind::Unknown), 1, "{outcomes:?}");
    assert_eq!(count(&outcomes, OutcomeKind::NotStarted), 1, "{outcomes:?}");
}

#[test]
fn an_order_that_was_lost_on_the_way_is_sent_again_and_carried_out_once() {
    let mut world = fleet(1);
    let host = "web01".parse().unwrap();
    // The session is dead, but the controller does not know it yet: the order goes nowhere.
    world.isolate("web01");
    let plan = run(&mut world, &[], "");
    assert_eq!(world.state.live.commands.len(), 1);
    world.step(Input::Disconnected { host });
    world.connect("web01");
    world.run("1m");
    assert_eq!(world.state.plans[&plan].state, PlanState::Succeeded, "{}", world.story());
    assert_eq!(world.effects().len(), 1);
    assert!(world.effects().values().all(|count| *count == 1));
}

#[test]
fn an_order_that_came_too_late_is_not_started_and_costs_nothing() {
    let mut world = fleet(1);
    let host = "web01".parse().unwrap();
    world.isolate("web01");
    let plan = run(&mut world, &[], "");
    world.step(Input::Disconnected { host });
    world.run("3m");
    world.connect("web01");
    world.run("1m");
    assert_eq!(count(&world.outcomes(plan), OutcomeKind::NotStarted), 1, "{}", world.story());
    assert!(world.effects().is_empty());
    assert!(world.state.ledger.values().all(|row| row.void));
}

#[test]
fn an_outcome_from_the_journal_settles_what_the_controller_missed() {
    let mut world = fleet(1);
    world.on("exec", |_, _| Done::ok().after("10s"));
    let plan = run(&mut world, &[], "");
    world.run("5s");
    world.disconnect("web01");
    world.run("30s");
    world.restart();
    world.connect("web01");
    world.run("5s");
    assert_eq!(world.state.plans[&plan].state, PlanState::Succeeded, "{}", world.story());
    assert!(world.effects().values().all(|count| *count == 1));
}

#[test]
fn a_dry_run_changes_nothing_and_costs_nothing() {
    let mut world = fleet(1);
    let mut run = world.a_run("exec", Selector::All, serde_json::Value::Null);
    run.dry_run = true;
    world.run_by("ada", run).unwrap();
    world.run("1m");
    assert_eq!(world.plans_in(PlanState::Succeeded).len(), 1, "{}", world.story());
    assert!(world.effects().is_empty());
    assert!(world.state.ledger.is_empty());
}

#[test]
fn what_did_not_help_is_undone_and_finally_runs_whatever_happened() {
    let mut world = fleet(1);
    world.apply(
        r"
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web-down }
spec:
  description: web is down
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes: { web: { tcp: { address: 'web.example:80' }, every: 5s } }
  trigger: { when: '!probe.web.ok' }
  escalate: { to: on-call }
  ladder:
    - name: swap
      do: [{ action: exec, with: { argv: [/bin/swap] } }]
      finally: [{ action: exec, with: { argv: [/bin/undrain] } }]
      verify: { that: probe.web.ok, within: 20s }
      otherwise: undo
",
    );
    world.set("web01", "web", &[("ok", false.into())]);
    world.run("2m");
    let mut commands: Vec<_> = world.state.commands.values().collect();
    commands.sort_by_key(|command| command.sent_at);
    let what: Vec<(bool, bool)> = commands.iter().map(|command| (command.finally, command.undoes.is_some())).collect();
    assert_eq!(what, [(false, false), (true, false), (false, true)], "{}", world.story());
    assert_eq!(world.plans_in(PlanState::Failed).len(), 1, "{}", world.story());
    assert_eq!(world.state.ledger.len(), 1, "recovery costs no budget");
    assert_eq!(world.effects().len(), 3);
}

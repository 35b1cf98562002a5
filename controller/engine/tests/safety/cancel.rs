//! A person calls a plan off: nothing more of it is begun, what is in flight stops, what runs in any case runs.

use std::time::Duration;

use quell_engine::{
    Actor, Input,
    id::PlanId,
    input::{Hello, HoldScope, Refusal, Request},
    state::{CommandState, Outcome, OutcomeKind, PlanState},
};
use quell_model::{name::HostName, selector::Selector, value::Fields};

use super::waves::{POLICY, dies, farm, flushed, midway, outcomes, recovered};
use crate::world::{Done, World};

fn cancel(world: &mut World, plan: u64) -> Result<(), Refusal> {
    world.ask("ada", Request::Cancel { plan: PlanId(plan), reason: "wrong proxies".to_owned() }).map(|_| ())
}

/// Lets time pass in small steps until something is so.
fn until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    for _ in 0..100_000 {
        if is_so(world) {
            return;
        }
        let next = world.now + Duration::from_millis(1);
        world.run_until(next);
    }
    panic!("it never came to that\n{}", world.story());
}

fn second_in_flight(policy: &str) -> World {
    let mut world = midway(policy);
    world.on("exec", |_, _| Done::never());
    until(&mut world, |world| flushed(world).len() == 2);
    world
}

#[test]
fn a_plan_between_its_waves_ends_at_once_and_finally_runs() {
    let mut world = midway(POLICY);
    cancel(&mut world, 1).unwrap();
    world.run("1h");
    assert_eq!(flushed(&world), ["proxy1"], "{}", world.story());
    assert_eq!(recovered(&world), 1, "{}", world.story());
    let plan = world.plans()[0];
    assert_eq!(plan.state, PlanState::Cancelled);
    assert_eq!(plan.verification, "called off by ada: wrong proxies");
    assert_eq!(outcomes(&world)["proxy2"], OutcomeKind::NotStarted);
    assert_eq!(world.plans().len(), 1, "people have it: nothing is tried by itself\n{}", world.story());
    let record = world.records.iter().find(|record| record.kind == "planCancelled").unwrap();
    assert_eq!(record.actor, Actor::Person("ada".to_owned()));
    assert_eq!(record.ids["plan"], "plan-1");
    assert!(world.told().iter().any(|line| line.contains("called off by ada: wrong proxies")), "{:?}", world.told());
}

#[test]
fn what_is_in_flight_is_asked_to_stop() {
    let mut world = second_in_flight(POLICY);
    until(&mut world, |world| world.state.commands.values().any(|command| command.state == CommandState::Begun));
    cancel(&mut world, 1).unwrap();
    world.run("5s");
    assert_eq!(outcomes(&world)["proxy2"], OutcomeKind::Failed, "{}", world.story());
    assert_eq!(outcomes(&world)["proxy3"], OutcomeKind::NotStarted);
    assert_eq!(recovered(&world), 2, "{}", world.story());
    assert_eq!(world.plans()[0].state, PlanState::Cancelled);
}

#[test]
fn what_has_not_begun_costs_nothing() {
    let mut world = second_in_flight(POLICY);
    cancel(&mut world, 1).unwrap();
    world.run("5s");
    assert_eq!(outcomes(&world)["proxy2"], OutcomeKind::NotStarted, "{}", world.story());
    assert_eq!(world.state.ledger.values().filter(|row| !row.void).count(), 1);
}

#[test]
fn what_succeeded_is_not_undone_by_a_person_who_stops() {
    let mut world = midway(&POLICY.replace("otherwise: next", "otherwise: undo"));
    cancel(&mut world, 1).unwrap();
    world.run("1h");
    assert!(world.state.commands.values().all(|command| command.undoes.is_none()), "{}", world.story());
}

#[test]
fn an_order_that_was_lost_on_the_way_is_not_sent_again() {
    let mut world = midway(POLICY);
    world.isolate("proxy2");
    until(&mut world, |world| flushed(world).len() == 2);
    cancel(&mut world, 1).unwrap();
    world.step(Input::Disconnected { host: "proxy2".parse().unwrap() });
    world.connect("proxy2");
    world.run("1m");
    assert_eq!(outcomes(&world)["proxy2"], OutcomeKind::NotStarted, "{}", world.story());
    assert!(!world.kinds().contains("commandResent"), "{}", world.story());
    assert_eq!(world.plans()[0].state, PlanState::Cancelled);
}

#[test]
fn nor_is_one_that_people_hold_by_then() {
    let mut world = midway(POLICY);
    world.isolate("proxy2");
    until(&mut world, |world| flushed(world).len() == 2);
    let scope = HoldScope::Hosts(Selector::All);
    world.ask("ada", Request::Hold { scope, span: Duration::from_secs(600), reason: "stop".to_owned() }).unwrap();
    world.step(Input::Disconnected { host: "proxy2".parse().unwrap() });
    world.connect("proxy2");
    world.run("1m");
    assert!(!world.kinds().contains("commandResent"), "{}", world.story());
    assert_eq!(outcomes(&world)["proxy2"], OutcomeKind::NotStarted, "{}", world.story());
}

/// The order arrives, waits there for its turn and is called off while its agent is away. Only the agent can say that it
/// does not begin.
#[test]
fn an_order_that_its_agent_still_has_is_called_off_there_and_not_counted_out_here() {
    for is_called_off in [true, false] {
        let mut world = midway(POLICY);
        world.isolate("proxy2");
        until(&mut world, |world| flushed(world).len() == 2);
        let waiting = world.state.commands.values().find(|command| command.state == CommandState::Sent).unwrap().id;
        let host: HostName = "proxy2".parse().unwrap();
        world.step(Input::Disconnected { host: host.clone() });
        if is_called_off {
            cancel(&mut world, 1).unwrap();
        }
        let hello = Hello { at_hand: [waiting].into(), instance: "1".to_owned(), ..Hello::default() };
        world.step(Input::Connected { host: host.clone(), hello: Box::new(hello) });
        assert!(!world.kinds().contains("commandResent"), "{}", world.story());
        assert_eq!(world.cancelled.contains(&(host.clone(), waiting)), is_called_off, "{}", world.story());
        assert_eq!(world.state.commands[&waiting].outcome, None, "{}", world.story());

        // It began just before it heard of that.
        world.step(Input::Begun { host: host.clone(), command: waiting });
        let done = outcome(OutcomeKind::Succeeded);
        let ended_at = world.now;
        world.step(Input::Ended { host, command: waiting, outcome: done, ended_at, sequence: 1 });
        let ended = world.state.commands[&waiting].outcome.as_ref().map(|outcome| outcome.kind);
        assert_eq!(ended, Some(OutcomeKind::Succeeded), "{}", world.story());
    }
}

/// An order that was lost on the way and given up is brought to its agent by somebody who kept it.
#[test]
fn what_was_begun_after_it_was_given_up_is_on_record_and_counts() {
    let mut world = midway(POLICY);
    world.isolate("proxy2");
    until(&mut world, |world| flushed(world).len() == 2);
    let lost = world.state.commands.values().find(|command| command.state == CommandState::Sent).unwrap().id;
    cancel(&mut world, 1).unwrap();
    let host: HostName = "proxy2".parse().unwrap();
    world.step(Input::Disconnected { host: host.clone() });
    world.connect("proxy2");
    let counts = |world: &World| world.state.ledger.values().filter(|row| !row.void).count();
    assert_eq!((outcomes(&world)["proxy2"], counts(&world)), (OutcomeKind::NotStarted, 1), "{}", world.story());
    let (ended_at, outcome) = (world.now, outcome(OutcomeKind::Succeeded));
    world.step(Input::Ended { host, command: lost, outcome, ended_at, sequence: 1 });
    assert_eq!((outcomes(&world)["proxy2"], counts(&world)), (OutcomeKind::Succeeded, 2), "{}", world.story());
    assert!(world.kinds().contains("commandReconciled"), "{}", world.story());
}

fn outcome(kind: OutcomeKind) -> Outcome {
    Outcome {
        kind,
        summary: String::new(),
        duration: Duration::ZERO,
        values: Fields::new(),
        output: String::new(),
        remedy: String::new(),
        moved: false,
    }
}

#[test]
fn an_agent_that_was_away_is_told_when_it_comes_back() {
    let mut world = second_in_flight(POLICY);
    until(&mut world, |world| world.state.commands.values().any(|command| command.state == CommandState::Begun));
    world.disconnect("proxy2");
    cancel(&mut world, 1).unwrap();
    world.restart();
    world.run("10s");
    assert!(!world.plans()[0].state.has_ended(), "{}", world.story());
    world.connect("proxy2");
    world.run("5s");
    assert_eq!(outcomes(&world)["proxy2"], OutcomeKind::Failed, "{}", world.story());
    assert_eq!(world.plans()[0].state, PlanState::Cancelled, "{}", world.story());
}

#[test]
fn what_waits_is_over_at_once_and_nothing_takes_its_place() {
    for (mode, state) in [("propose", PlanState::Proposed), ("enforce", PlanState::Held)] {
        let mut world = farm(&POLICY.replace("mode: enforce", &format!("mode: {mode}")));
        if state == PlanState::Held {
            let scope = HoldScope::Policy("plants/web-down".parse().unwrap());
            world
                .ask("bob", Request::Hold { scope, span: Duration::from_secs(300), reason: "wait".to_owned() })
                .unwrap();
        }
        dies(&mut world, 1);
        world.run("1m");
        assert_eq!(world.plans()[0].state, state, "{}", world.story());
        cancel(&mut world, 1).unwrap();
        assert_eq!(world.plans()[0].state, PlanState::Cancelled);
        world.run("2h");
        assert_eq!(world.plans().len(), 1, "{}", world.story());
        assert!(world.sent().is_empty(), "{}", world.story());
    }
}

#[test]
fn what_cannot_be_called_off_says_why() {
    let mut world = second_in_flight(POLICY);
    assert!(matches!(cancel(&mut world, 99), Err(Refusal::NotFound(_))));
    let silent = Request::Cancel { plan: PlanId(1), reason: " ".to_owned() };
    assert!(matches!(world.ask("ada", silent), Err(Refusal::Invalid(_))));
    cancel(&mut world, 1).unwrap();
    let again = cancel(&mut world, 1).unwrap_err().to_string();
    assert!(again.contains("stopped already (called off by ada"), "{again}");
    world.run("2m");
    let over = cancel(&mut world, 1).unwrap_err().to_string();
    assert!(over.contains("was cancelled: it is over"), "{over}");
    let request = Request::Cancel { plan: PlanId(1), reason: "x".to_owned() };
    let refused = world.step(Input::Request { actor: Actor::Controller, request: Box::new(request) }).unwrap();
    assert!(matches!(refused, Err(Refusal::Forbidden(_))));
}

#[test]
fn a_persons_run_is_called_off_too() {
    let mut world = midway(POLICY);
    let web = Selector::labels([("role".to_owned(), "web".to_owned())].into());
    let mut run = world.a_run("log.rotate", web, serde_json::Value::Null);
    run.waves = vec![1];
    world.run_by("bob", run).unwrap();
    world.run("10s");
    cancel(&mut world, 2).unwrap();
    world.run("10m");
    let rotated = world.sent().iter().filter(|line| line.contains("log.rotate")).count();
    assert_eq!(rotated, 1, "{}", world.story());
    assert_eq!(world.state.plans[&PlanId(2)].state, PlanState::Cancelled);
}

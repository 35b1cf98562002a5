//! Why: every verdict is explained, each guard says what it says, and the first no is the one that people are told.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use quell_engine::{Explanation, explain::Recorded, input::Hello, state::Verdict};
use quell_model::{selector::Selector, value::Truth};
use world::{Done, World};

/// The guards in the order in which they are asked.
const GUARDS: [&str; 19] = [
    "mode",
    "limits",
    "clock",
    "frozen",
    "hostHold",
    "symptom",
    "dependency",
    "require",
    "calendar",
    "cooldown",
    "budget",
    "once",
    "disturb",
    "keepHealthy",
    "resource",
    "settle",
    "online",
    "preview",
    "approval",
];

const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web-down }
spec:
  description: web is down
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes: { web: { tcp: { address: 'web.example:80' }, every: 10s } }
  trigger: { when: '!probe.web.ok', for: 30s }
  escalate: { to: on-call, after: 15m }
  guards: { disturb: { hosts: 10, percent: 100, over: 1h } }
  ladder:
    - name: restart
      on: { matchLabels: { half: 'yes' } }
      do: [{ action: service.restart, with: { service: web } }]
      rollout: { waves: [1], settle: 30s }
      verify: { that: probe.web.ok, within: 60s }
";

fn farm(policy: &str) -> World {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    for number in 1..=2 {
        world.join(&format!("web{number}"), &[("role", "web"), ("half", "yes")]);
    }
    world.apply_files(&["calendars", "contacts"], &[]);
    world.apply(policy);
    world.set_all("web", &[("ok", true.into())]);
    world.on("service.restart", |_, _| Done::ok().after("5s"));
    world.run("1m");
    world
}

fn dies(world: &mut World, span: &str) {
    world.set("web1", "web", &[("ok", false.into())]);
    world.run(span);
}

fn of_web1(world: &World) -> Explanation {
    world.why("web-down").into_iter().find(|why| why.target.to_string() == "web1").unwrap()
}

/// The verdict, and the guard that says the first no; all guards are listed, each with its reason.
fn told(world: &World) -> (Verdict, String) {
    let why = of_web1(world);
    assert_eq!(why.guards.len(), GUARDS.len(), "{why:#?}");
    for (guard, name) in why.guards.iter().zip(GUARDS) {
        if guard.allows {
            assert_eq!(guard.guard, name);
        }
        assert_eq!(guard.allows, guard.reason.is_empty(), "{guard:?}");
    }
    let first = why.guards.iter().find(|guard| !guard.allows);
    let no = why.first_no.as_ref().map(|no| (no.guard.clone(), no.reason.clone()));
    assert_eq!(first.map(|guard| (guard.guard.clone(), guard.reason.clone())), no, "{why:#?}");
    assert!(!why.summary.is_empty());
    (why.verdict, no.map_or_else(|| "none".to_owned(), |no| no.0))
}

fn expect(world: &World, verdict: Verdict, first_no: &str) {
    assert_eq!(told(world), (verdict, first_no.to_owned()), "{:#?}\n{}", of_web1(world), world.story());
}

#[test]
fn not_firing() {
    let world = farm(POLICY);
    expect(&world, Verdict::NotFiring, "symptom");
    assert_eq!(of_web1(&world).truth, Truth::False);
}

#[test]
fn unknown() {
    let mut world = farm(POLICY);
    world.blind("web1", "web");
    world.run("1m");
    expect(&world, Verdict::Unknown, "symptom");
    let why = of_web1(&world);
    assert_eq!(why.truth, Truth::Unknown);
    assert!(why.first_no.unwrap().reason.contains("missing or stale"));
    assert!(why.saw.iter().any(|saw| saw.name == "probe.web.ok" && saw.value.is_none()), "{:?}", why.saw);
}

/// Nothing comes that would make anybody look: what a probe said last is not news any more, and that is on record.
#[test]
fn a_sample_that_goes_stale_changes_the_verdict_when_it_does() {
    let mut world = farm(POLICY);
    let last = world.now;
    world.blind("web1", "web");
    world.run("5m");
    let mut of_web1 = world.records.iter().filter(|record| {
        record.kind == "verdictChanged" && record.ids.get("target").is_some_and(|target| target == "web1")
    });
    let record = of_web1.next_back().unwrap();
    assert!(record.text.contains("unknown"), "{}", record.text);
    let after = record.time.duration_since(last).as_secs();
    assert!((20..=31).contains(&after), "three intervals of 10 s after the last sample, not {after} s");
}

#[test]
fn pending() {
    let mut world = farm(POLICY);
    dies(&mut world, "15s");
    expect(&world, Verdict::Pending, "none");
}

#[test]
fn fired_while_it_runs_and_while_it_is_verified() {
    let slow = POLICY.replace("for: 30s", "for: 30s, clear: probe.web.successes >= 4");
    let mut world = farm(&slow.replace("that: probe.web.ok,", "that: probe.web.ok, stable: 50s,"));
    dies(&mut world, "40s");
    expect(&world, Verdict::Fired, "none");
    assert!(of_web1(&world).plan.is_some());
    world.run("40s");
    world.set("web1", "web", &[("ok", true.into())]);
    // It is well by now, but not for long enough to be over: nothing more is asked of what has been carried out.
    world.run("15s");
    assert_eq!(of_web1(&world).truth, Truth::False);
    expect(&world, Verdict::Fired, "none");
}

#[test]
fn held_before_it_begins_and_between_its_waves() {
    let mut world = farm(POLICY);
    let hold = Some(("look".to_owned(), world.now + std::time::Duration::from_secs(120)));
    world.step(quell_engine::Input::HostHeld { host: "web1".parse().unwrap(), hold: hold.clone() });
    dies(&mut world, "1m");
    expect(&world, Verdict::Held, "hostHold");
    world.run("65s");
    expect(&world, Verdict::Fired, "none");
    world.step(quell_engine::Input::HostHeld {
        host: "web2".parse().unwrap(),
        hold: hold.map(|hold| (hold.0, hold.1 + std::time::Duration::from_secs(600))),
    });
    world.run("60s");
    expect(&world, Verdict::Held, "hostHold");
}

#[test]
fn a_hold_of_people_has_the_same_name_in_the_list_and_in_the_first_no() {
    use quell_engine::input::{HoldScope, Request};
    let mut world = farm(POLICY);
    let scope = HoldScope::Hosts(quell_model::selector::Selector::All);
    let span = std::time::Duration::from_secs(600);
    world.ask("ada", Request::Hold { scope, span, reason: "racks".to_owned() }).unwrap();
    dies(&mut world, "1m");
    expect(&world, Verdict::Held, "freeze");
}

/// What the records of changed verdicts of web1 hold, oldest first.
fn changes(world: &World) -> Vec<Recorded> {
    let of_web1 = |record: &&quell_engine::Change| {
        record.kind == "verdictChanged" && record.ids.get("target").is_some_and(|target| target == "web1")
    };
    let records = world.records.iter().filter(of_web1);
    records.map(|record| serde_json::from_value(record.data.clone()).unwrap()).collect()
}

/// The newest of them.
fn recorded(world: &World) -> Recorded {
    changes(world).pop().unwrap()
}

#[test]
fn each_change_is_recorded_with_the_answer_of_its_moment_and_the_way_to_the_one_before() {
    let mut world = farm(POLICY);
    let well = recorded(&world);
    assert_eq!((well.row.verdict, well.previous), (Verdict::NotFiring, None));
    let hold = Some(("look".to_owned(), world.now + std::time::Duration::from_secs(120)));
    world.step(quell_engine::Input::HostHeld { host: "web1".parse().unwrap(), hold });
    // What would hold it is said while it is pending already.
    let holds = Some("hostHold");
    for (verdict, first_no) in [(Verdict::Pending, holds), (Verdict::Held, holds), (Verdict::Fired, None)] {
        dies(&mut world, "1s");
        while recorded(&world).row.verdict != verdict {
            world.run("1s");
        }
        let recorded = recorded(&world);
        let seen = recorded.seen.unwrap();
        assert_eq!(seen.verdict, verdict);
        assert_eq!(seen.first_no.as_ref().map(|no| no.guard.as_str()), first_no, "{verdict:?}");
        assert_eq!(seen.guards.len(), GUARDS.len());
        assert_eq!(seen.guards.iter().find(|guard| !guard.allows).map(|guard| guard.guard.as_str()), first_no);
        assert_eq!(seen.truth, Truth::True);
        assert!(seen.saw.iter().any(|saw| saw.name == "probe.web.ok" && saw.value == Some(false.into())), "{seen:?}");
    }
    let since: Vec<_> = changes(&world).iter().map(|change| Some(change.row.since)).collect();
    let previous: Vec<_> = changes(&world).iter().map(|change| change.previous).collect();
    assert_eq!(previous[1..], since[..since.len() - 1]);
}

#[test]
fn a_record_keeps_a_dozen_of_many_values_and_what_is_missing_first() {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    for number in 0..20 {
        world.join(&format!("web{number}"), &[("role", "web")]);
    }
    world.apply_files(&["calendars", "contacts"], &[]);
    let fleet = POLICY
        .replace("  trigger: { when: '!probe.web.ok', for: 30s }", "  target: fleet\n  signals: { down: { that: '!probe.web.ok', quorum: 2 of 20 } }\n  trigger: { when: signal.down }")
        .replace("{ that: probe.web.ok,", "{ that: '!signal.down',");
    world.apply(&fleet);
    world.set_all("web", &[("ok", true.into())]);
    world.run("1m");
    world.blind("web9", "web");
    world.run("1m");
    world.set_all("web", &[("ok", false.into())]);
    world.blind("web9", "web");
    world.run("1m");
    let record = world.records.iter().rev().find(|record| record.kind == "verdictChanged").unwrap();
    let recorded: Recorded = serde_json::from_value(record.data.clone()).unwrap();
    let seen = recorded.seen.unwrap();
    let down = &seen.signals[0];
    assert_eq!(down.saw.len(), 12, "{down:#?}");
    assert!(recorded.left_out >= 8, "{}", recorded.left_out);
    assert_eq!((down.saw[0].host.as_str(), down.saw[0].value.as_ref()), ("web9", None));
}

#[test]
fn observed_only() {
    let mut world = farm(&POLICY.replace("mode: enforce", "mode: observe"));
    dies(&mut world, "1m");
    expect(&world, Verdict::ObserveOnly, "mode");
}

#[test]
fn awaiting_an_approval() {
    let mut world = farm(&POLICY.replace("mode: enforce", "mode: propose"));
    dies(&mut world, "1m");
    expect(&world, Verdict::AwaitingApproval, "approval");
}

#[test]
fn a_host_that_comes_back_held_is_not_given_what_waited_for_it() {
    let mut world = World::begin("2026-11-23T09:59:00+01:00");
    world.join("lone", &[("role", "lone")]);
    world.disconnect("lone");
    let hosts = Selector::labels([("role".to_owned(), "lone".to_owned())].into());
    let run = world.a_run("service.restart", hosts, serde_json::json!({ "service": "web" }));
    world.run_by("ada", run).unwrap();
    let held_by = |world: &World| world.plans()[0].hold.as_ref().map(|hold| hold.guard.clone());
    assert_eq!(held_by(&world).as_deref(), Some("online"), "{}", world.story());
    let held = Some(Some(("its disk is being changed".to_owned(), "2026-11-24T09:00:00Z".parse().unwrap())));
    let hello = Hello { held, instance: "1".to_owned(), ..Hello::default() };
    world.step(quell_engine::Input::Connected { host: "lone".parse().unwrap(), hello: Box::new(hello) });
    assert_eq!(held_by(&world).as_deref(), Some("hostHold"), "{}", world.story());
    assert!(world.sent().is_empty());
}

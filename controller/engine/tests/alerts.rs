//! Alerts that another system tells of: a symptom like any other. What follows is held by the same guards and ledger.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod world;

use std::collections::BTreeMap;

use quell_engine::{
    input::{ForeignAlert, HoldScope, Reply, Request},
    state::{AlertState, PlanState, Verdict},
};
use quell_model::{selector::Selector, value::Truth};
use serde_json::json;
use world::{Done, World};

const POLICY: &str = "
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Calendar
metadata: { namespace: plants, name: mornings }
spec: { timeZone: UTC, open: [{ days: daily, from: '00:00', to: '12:00' }] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: lag }
spec:
  description: the web servers lag behind
  mode: enforce
  hosts: { matchLabels: { role: web } }
  probes: { web: { tcp: { address: 'web.example:80' }, every: 10s } }
  trigger:
    TRIGGER
  escalate: { to: on-call, after: 15m }
  guards: { cooldown: 30m, calendar: mornings, disturb: { hosts: 2, percent: 100 }, budget: { perTarget: 2, perPolicy: 9, within: 24h } }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
    - name: again
      do: [{ action: service.restart, with: { service: web } }]
      verify: { that: probe.web.ok, within: 60s }
";
const BY_ALERT: &str = "alert: { source: prometheus, match: { alertname: HighLag }, target: labels.instance }";
const BY_PROBE: &str = "when: '!probe.web.ok'";

fn shop(trigger: &str) -> World {
    let mut world = World::begin("2026-11-23T06:59:00+01:00");
    for name in ["web1", "web2"] {
        world.join(name, &[("role", "web")]);
    }
    world.join("db1", &[("role", "db")]);
    world.apply(&POLICY.replace("TRIGGER", trigger));
    world.set_all("web", &[("ok", true.into())]);
    world.on("service.restart", |order, facts| {
        facts.set(&order.host, "web", &[("ok", true.into())]);
        Done::ok()
    });
    world.run("1m");
    world
}

fn alert(fires: bool, labels: &[(&str, &str)]) -> ForeignAlert {
    let labels: BTreeMap<_, _> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ForeignAlert { fingerprint: format!("{labels:?}"), labels, fires }
}

fn lag(fires: bool, instance: &str) -> ForeignAlert {
    alert(fires, &[("alertname", "HighLag"), ("instance", instance), ("severity", "page")])
}

/// What another system says, and the counts of the answer: alerts, concerning, unplaced.
fn tell(world: &mut World, source: &str, alerts: Vec<ForeignAlert>) -> (u32, u32, u32) {
    match world.ask(source, Request::TellAlerts { alerts }).unwrap() {
        Reply::Told { of, concerning, unplaced } => (of, concerning, unplaced),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_alert_starts_what_the_policy_says_and_is_over_when_the_other_system_says_so() {
    let mut world = shop(BY_ALERT);
    assert_eq!(tell(&mut world, "prometheus", vec![lag(true, "web1:9100")]), (1, 1, 0));
    world.run("1m");
    assert_eq!(world.sent(), ["07:00:00 service.restart web1"], "{}", world.story());
    assert_eq!(world.plans_in(PlanState::Succeeded).len(), 1, "{}", world.story());
    assert_eq!(world.open().len(), 1, "what was done was verified, and the other system still says that it fires");
    tell(&mut world, "prometheus", vec![lag(false, "web1:9100")]);
    world.run("10s");
    assert!(world.open().is_empty(), "{}", world.story());
    assert!(world.state.externals.is_empty(), "nothing is kept of what is over");
    world.run("1h");
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn only_the_source_the_labels_and_the_hosts_of_the_policy_count() {
    let mut world = shop(BY_ALERT);
    assert_eq!(tell(&mut world, "somebody", vec![lag(true, "web1")]), (1, 0, 0), "another source");
    let other = alert(true, &[("alertname", "Other"), ("instance", "web1")]);
    let nameless = alert(true, &[("instance", "web1")]);
    assert_eq!(tell(&mut world, "prometheus", vec![other, nameless]), (2, 0, 0));
    let nowhere = alert(true, &[("alertname", "HighLag")]);
    let hosts = vec![nowhere, lag(true, "db1"), lag(true, "web9:9100"), lag(true, "../x"), lag(true, "")];
    assert_eq!(tell(&mut world, "prometheus", hosts), (5, 5, 5), "no host that the policy means");
    world.run("1h");
    assert!(world.sent().is_empty() && world.state.alerts.is_empty() && world.state.externals.is_empty());
    let records = world.tell(&["alertsTold"]);
    assert!(records.contains("5 times no host that the policy means was named"), "{records}");
}

#[test]
fn what_is_not_told_again_is_unknown_and_neither_acts_nor_ends() {
    let mut world = shop(BY_ALERT);
    let scope = HoldScope::Hosts(Selector::All);
    let span = std::time::Duration::from_secs(14 * 60);
    world.ask("ada", Request::Hold { scope, span, reason: "wait".to_owned() }).unwrap();
    tell(&mut world, "prometheus", vec![lag(true, "web1")]);
    world.run("10m");
    assert_eq!(world.why("lag")[0].truth, Truth::True);
    // It outlives a restart of the controller: what samples say is asked again, and what was told is not.
    world.restart();
    assert_eq!(world.why("lag")[0].truth, Truth::True);
    world.run("4m");
    assert_eq!(world.state.alerts.values().next().unwrap().state, AlertState::Firing);
    let mut stale = shop(BY_ALERT);
    let reason = "wait".to_owned();
    let span = std::time::Duration::from_secs(20 * 60);
    stale.ask("ada", Request::Hold { scope: HoldScope::Hosts(Selector::All), span, reason }).unwrap();
    tell(&mut stale, "prometheus", vec![lag(true, "web1")]);
    stale.run("30m");
    let why = &stale.why("lag")[0];
    assert_eq!((why.truth, why.verdict), (Truth::Unknown, Verdict::Held), "{}", stale.story());
    assert!(stale.sent().is_empty(), "the hold is over, and nobody knows: {}", stale.story());
    assert_eq!(stale.open().len(), 1, "nor is it over");
    tell(&mut stale, "prometheus", vec![lag(true, "web1")]);
    stale.run("1m");
    assert_eq!(stale.sent().len(), 1, "{}", stale.story());
}

#[test]
fn more_alerts_than_are_kept_are_never_taken_for_none() {
    let mut world = shop(BY_ALERT);
    let one = |number: u32, fires| {
        alert(fires, &[("alertname", "HighLag"), ("instance", "web1"), ("shard", &number.to_string())])
    };
    let some = |range: std::ops::Range<u32>, fires| range.map(|number| one(number, fires)).collect();
    tell(&mut world, "prometheus", some(0..100, true));
    let truth =
        |world: &World| world.why("lag").into_iter().find(|why| why.target.to_string() == "web1").unwrap().truth;
    assert_eq!((truth(&world), world.state.externals.values().next().unwrap().firing.len()), (Truth::True, 64));
    let kept = world.state.externals.values().next().unwrap().firing.clone();
    let lost = (0..100).find(|number| !kept.contains_key(&one(*number, true).fingerprint)).unwrap();
    tell(
        &mut world,
        "prometheus",
        (0..100).filter(|number| *number != lost).map(|number| one(number, false)).collect(),
    );
    assert_eq!(truth(&world), Truth::Unknown, "one fires that was not kept");
    world.run("16m");
    assert_eq!(truth(&world), Truth::False, "its source had the time to tell of it again");
    // Alerts whose end got lost make no room for none that is told of later.
    tell(&mut world, "prometheus", some(0..64, true));
    world.run("20m");
    assert_eq!(truth(&world), Truth::Unknown);
    tell(&mut world, "prometheus", some(64..65, true));
    assert_eq!(truth(&world), Truth::True);
}

#[test]
fn another_question_is_not_answered_by_what_was_told_before() {
    let mut world = shop(BY_ALERT);
    let (scope, span) = (HoldScope::Hosts(Selector::All), std::time::Duration::from_secs(7_200));
    world.ask("ada", Request::Hold { scope, span, reason: "wait".to_owned() }).unwrap();
    tell(&mut world, "prometheus", vec![lag(true, "web1")]);
    let narrower = BY_ALERT.replace("HighLag }", "HighLag, severity: page }");
    world.apply(&POLICY.replace("TRIGGER", &narrower));
    assert_eq!(world.why("lag")[0].truth, Truth::Unknown, "{}", world.story());
    assert_eq!(world.open().len(), 1, "it is not over because somebody asks otherwise");
    tell(&mut world, "prometheus", vec![lag(true, "web1")]);
    assert_eq!(world.why("lag")[0].truth, Truth::True);
    world.apply(&POLICY.replace("TRIGGER", &narrower.replace("severity: page", "severity: info")));
    world.run("16m");
    assert_eq!(world.why("lag")[0].truth, Truth::False, "and not told of for so long it is none of these");
}

#[test]
fn repetitions_that_say_nothing_new_are_not_written_down() {
    let mut world = shop(BY_ALERT);
    for _ in 0..30 {
        assert_eq!(tell(&mut world, "prometheus", vec![lag(true, "web1")]), (1, 1, 0));
        world.run("10s");
    }
    let told = world.records.iter().filter(|record| record.kind == "alertsTold").count();
    assert_eq!(told, 2, "once, and once more after a quarter of its fifteen minutes: {}", world.story());
    let many = (0..1_001).map(|number| alert(true, &[("alertname", "HighLag"), ("instance", &format!("web{number}"))]));
    let many: Vec<_> = many.collect();
    assert_eq!(tell(&mut world, "prometheus", many).0, 1_001, "two of them are hosts");
}

/// What stands in the way, and the guard that says so.
type InTheWay = (&'static str, fn(&mut World));

#[test]
fn an_alert_is_held_by_whatever_holds_a_condition() {
    let ways: [InTheWay; 6] = [
        ("freeze", |world| {
            let (scope, span) = (HoldScope::Hosts(Selector::All), std::time::Duration::from_secs(3_600));
            world.ask("ada", Request::Hold { scope, span, reason: "look".to_owned() }).unwrap();
        }),
        ("hold", |world| {
            let (scope, span) =
                (HoldScope::Policy("plants/lag".parse().unwrap()), std::time::Duration::from_secs(3_600));
            world.ask("ada", Request::Hold { scope, span, reason: "look".to_owned() }).unwrap();
        }),
        ("calendar", |world| world.run_to("2026-11-23T13:30:00+01:00")),
        ("cooldown", |world| {
            let run = world.a_run(
                "service.restart",
                Selector::labels([("role".to_owned(), "web".to_owned())].into()),
                json!({ "service": "web" }),
            );
            world.run_by("ada", run).unwrap();
            world.run("5m");
        }),
        ("online", |world| {
            world.disconnect("web1");
        }),
        ("clock", |world| {
            world.step(quell_engine::Input::ClockJumped { seconds: 90.0 });
        }),
    ];
    for (guard, stand_in_the_way) in ways {
        for trigger in [BY_PROBE, BY_ALERT] {
            let mut world = shop(trigger);
            stand_in_the_way(&mut world);
            let sent = world.sent().len();
            if trigger == BY_ALERT {
                tell(&mut world, "prometheus", vec![lag(true, "web1")]);
            } else {
                world.set("web1", "web", &[("ok", false.into())]);
            }
            world.run("30s");
            let why = world.why("lag").into_iter().find(|why| why.target.to_string() == "web1").unwrap();
            let is_unseen = guard == "online" && trigger == BY_PROBE;
            if !is_unseen {
                let no = why.first_no.map(|hold| hold.guard);
                assert_eq!(no.as_deref(), Some(guard), "{trigger}: {}", world.story());
            }
            assert_eq!(world.sent().len(), sent, "{guard}, {trigger}: {}", world.story());
        }
    }
}

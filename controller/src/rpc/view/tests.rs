use std::sync::Arc;

use quell_engine::{
    id::{CommandId, IncidentId, PlanId},
    state::{
        CommandRow, CommandState, HostRow, HostState, IncidentRow, IncidentState, Instead, Look, Needs, Outcome,
        OutcomeKind, PlanRow, PlanState, Preview, Vote,
    },
};
use quell_model::{digest::Digest, policy::Severity, preview::Item, value::Value};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn row<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn host(name: &str, state: HostState) -> HostRow {
    row(serde_json::json!({
        "name": name, "hostId": "h1", "labels": {"role": "orders"}, "key": Digest::default(),
        "certificateExpires": at(1_000), "agentVersion": "0.1.0", "facts": {}, "state": state, "since": at(0),
        "lastSeen": at(10), "instance": "", "held": null,
    }))
}

fn incident(id: u64, state: IncidentState) -> IncidentRow {
    row(serde_json::json!({
        "id": IncidentId(id), "problem": "backlog", "target": "planthost1", "policies": ["plants/order-backlog"],
        "state": state, "severity": Severity::Page, "summary": "orders wait", "openedAt": at(20),
        "resolvedAt": null, "resolution": null, "acknowledgedBy": null, "rung": 0, "plans": [PlanId(7)],
        "hold": {"guard": "cooldown", "reason": "acted 8m ago", "until": at(500), "since": at(21)},
        "notes": [], "escalatedAt": null,
    }))
}

fn plan(state: PlanState) -> PlanRow {
    row(serde_json::json!({
        "id": PlanId(7), "hash": Digest::of(b"plan"), "canonical": "{}", "incident": IncidentId(1),
        "policy": "plants/order-backlog", "policyDigest": null, "target": "planthost1", "rung": "restart",
        "rungIndex": 0, "requester": null, "state": state, "values": {"active": "dns1", "count": 15.0},
        "commands": [CommandId(9)], "waves": [1, 2], "settle": {"secs": 60, "nanos": 0}, "maxErrors": 0,
        "createdAt": at(30), "startedAt": null, "actedAt": null, "endedAt": null, "verifiedSince": null,
        "needs": null, "hold": null,
    }))
}

fn command() -> CommandRow {
    row(serde_json::json!({
        "id": CommandId(9), "plan": PlanId(7), "idempotencyKey": "k", "fence": 3, "host": "planthost1", "step": 0,
        "wave": 0, "action": "service.restart", "parameters": {"service": "orders"},
        "timeout": {"secs": 30, "nanos": 0}, "state": CommandState::Begun, "sentAt": at(31), "notAfter": null,
        "endedAt": null, "outcome": null,
    }))
}

fn state() -> State {
    let mut state = State::default();
    for row in [host("planthost1", HostState::Online), host("old", HostState::Retired)] {
        state.hosts.insert(row.name.clone(), Arc::new(row));
    }
    state.incidents.insert(IncidentId(1), Arc::new(incident(1, IncidentState::Open)));
    state.incidents.insert(IncidentId(2), Arc::new(incident(2, IncidentState::Resolved)));
    state.plans.insert(PlanId(7), Arc::new(plan(PlanState::Running)));
    state.commands.insert(CommandId(9), Arc::new(command()));
    state
}

fn nothing(_: &HostName) -> LiveFacts {
    LiveFacts::default()
}

fn viewer(state: &State) -> Viewer<'_> {
    Viewer { state, live: &nothing, now: at(100) }
}

fn named(name: &str) -> Filter {
    Filter { name: name.to_owned(), ..Filter::default() }
}

#[test]
fn hosts_show_live_facts_and_retired_ones_only_when_asked() {
    let state = state();
    let live = |_: &HostName| LiveFacts { last_seen: Some(at(99)), samples: 12, dropped: 3, ..LiveFacts::default() };
    let viewer = Viewer { live: &live, ..viewer(&state) };
    let hosts = viewer.hosts(&Filter::default());
    assert_eq!(hosts.len(), 1);
    assert_eq!((hosts[0].name.as_str(), hosts[0].state.as_str()), ("planthost1", "online"));
    assert_eq!(hosts[0].last_seen.as_deref(), Some("1970-01-01T00:01:39Z"));
    assert_eq!((hosts[0].samples, hosts[0].dropped_samples), (12, 3));
    assert_eq!(viewer.hosts(&Filter { all: true, ..Filter::default() }).len(), 2);
    let other = Filter { labels: Labels::from([("role".to_owned(), "web".to_owned())]), ..Filter::default() };
    assert!(viewer.hosts(&other).is_empty());
}

#[test]
fn the_last_session_counts_when_nothing_is_known_since_the_start() {
    let state = state();
    assert_eq!(viewer(&state).hosts(&named("planthost1"))[0].last_seen.as_deref(), Some("1970-01-01T00:00:10Z"));
}

#[test]
fn incidents_hold_their_plans_with_steps_and_what_holds_them() {
    let state = state();
    let incidents = viewer(&state).incidents(&Filter::default());
    assert_eq!(incidents.len(), 1);
    let incident = &incidents[0];
    assert_eq!((incident.id.as_str(), incident.state.as_str(), incident.severity.as_str()), ("inc-1", "open", "page"));
    assert_eq!(incident.hold.as_ref().unwrap().guard, "cooldown");
    let plan = &incident.plans[0];
    assert_eq!((plan.id.as_str(), plan.state.as_str()), ("plan-7", "running"));
    assert_eq!(plan.values["active"], "dns1");
    assert_eq!(plan.values["count"], "15");
    assert_eq!((plan.steps[0].outcome.as_str(), plan.steps[0].command_id.as_str()), ("started", "cmd-9"));
    assert_eq!(plan.steps[0].parameters, "{\"service\":\"orders\"}");
    let all = viewer(&state).incidents(&Filter { all: true, ..Filter::default() });
    assert_eq!(all.iter().map(|incident| incident.id.as_str()).collect::<Vec<_>>(), ["inc-2", "inc-1"]);
    assert_eq!(viewer(&state).incidents(&named("inc-2")).len(), 1);
}

#[test]
fn a_step_shows_its_outcome_and_the_line_that_would_permit_it() {
    let mut state = state();
    let mut command = command();
    command.outcome = Some(Outcome {
        kind: OutcomeKind::Refused,
        summary: "not allowed".to_owned(),
        duration: std::time::Duration::from_millis(12),
        values: [("pid".to_owned(), Value::Number(1.0))].into(),
        output: String::new(),
        remedy: "services = [\"orders\"]".to_owned(),
        moved: false,
    });
    state.commands.insert(CommandId(9), Arc::new(command));
    let plan = viewer(&state).plan_with(PlanId(7)).unwrap();
    assert_eq!((plan.steps[0].outcome.as_str(), plan.steps[0].duration_ms), ("refused", 12));
    assert_eq!(plan.steps[0].remedy.as_deref(), Some("services = [\"orders\"]"));
}

#[test]
fn a_plan_says_what_its_approval_still_needs() {
    let mut state = state();
    let mut plan = plan(PlanState::Proposed);
    plan.needs = Some(Needs {
        role: "compliance".to_owned(),
        count: 2,
        expires: at(900),
        choices: ["clear", "storage", "reject"].map(str::to_owned).to_vec(),
        instead: [("storage".to_owned(), Instead { contact: "ops".parse().unwrap(), text: None })].into(),
        remind: None,
        reminded_at: at(0),
        signed: true,
    });
    let vote = |denied| Vote {
        at: at(40),
        who: "mira".into(),
        choice: "clear".into(),
        reason: String::new(),
        denied,
        signature: None,
        expires: None,
    };
    plan.votes = vec![vote(false)];
    state.plans.insert(PlanId(7), Arc::new(plan));
    let approvals = viewer(&state).approvals(&Filter::default());
    assert_eq!(approvals[0].needs.as_deref(), Some("1 of role compliance"));
    assert_eq!(approvals[0].approvals[0].role, "compliance");
    let offers: Vec<_> = approvals[0].offers.iter().map(|offer| (offer.name.as_str(), offer.does.as_str())).collect();
    let wanted = [("clear", "runs the plan"), ("storage", "tells ops, and nothing is run"), ("reject", "denies it")];
    assert_eq!(offers, wanted);
}

#[test]
fn a_step_shows_what_its_host_would_touch() {
    let mut state = state();
    let mut command = command();
    assert_eq!(viewer(&state).plan_with(PlanId(7)).unwrap().steps[0].previewed, None, "nobody was asked");
    command.look = Some(Look { fence: 3, asked_at: at(1), preview: None });
    state.commands.insert(CommandId(9), Arc::new(command.clone()));
    assert_eq!(viewer(&state).plan_with(PlanId(7)).unwrap().steps[0].previewed, Some(false));
    let item = Item {
        verb: "delete".to_owned(),
        object: "/var/a\u{1b}[2K".to_owned(),
        size: 4 << 20,
        detail: "old".to_owned(),
        moving: false,
    };
    let digest = quell_model::preview::digest(std::slice::from_ref(&item));
    let preview = Preview { items: vec![item], digest, refusal: None, note: "one is open".to_owned() };
    command.look = Some(Look { fence: 3, asked_at: at(1), preview: Some(preview) });
    state.commands.insert(CommandId(9), Arc::new(command));
    let plan = viewer(&state).plan_with(PlanId(7)).unwrap();
    let step = &plan.steps[0];
    assert_eq!((step.previewed, step.note.as_deref()), (Some(true), Some("one is open")));
    assert_eq!(step.preview, ["delete /var/a\\u{1b}[2K (4.0 MiB): old"]);
    assert_eq!((step.items[0].object.as_str(), step.items[0].size_bytes), ("/var/a\u{1b}[2K", 4 << 20));
    assert_eq!(plan.canonical, state.plans[&PlanId(7)].canonical);
}

#[test]
fn a_plan_is_found_by_the_beginning_of_its_hash_but_not_by_a_letter_of_it() {
    let state = state();
    let hash = Digest::of(b"plan").to_string();
    assert_eq!(viewer(&state).plans(&named(&hash[..8])).len(), 1);
    assert!(viewer(&state).plans(&named(&hash[..1])).is_empty());
}

#[test]
fn status_counts_the_fleet_and_warns_of_what_holds_everything() {
    let mut state = state();
    std::sync::Arc::make_mut(&mut state.meta).observe_only = Some("restored from a backup".to_owned());
    let status = viewer(&state).status(vec!["the disk is full".to_owned()]);
    assert_eq!((status.hosts_online, status.hosts_lost), (1, 0));
    assert_eq!(status.incidents.len(), 1);
    assert_eq!(status.warnings.len(), 2);
    assert!(status.holds.iter().any(|hold| hold.what == "everything" && hold.guard == "restored"));
    assert!(status.holds.iter().any(|hold| hold.what == "inc-1"));
}

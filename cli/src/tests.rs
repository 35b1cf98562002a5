//! The command line as a whole: what is understood, and what people see.

use clap::{CommandFactory as _, Parser as _};
use jiff::Timestamp;
use quell_wire::v1::{
    ApprovalView, GetResponse, GuardView, HoldView, HostView, IncidentView, NoteView, PastView, PlanView, PolicyView,
    PreviewItemView, SignalView, StatusView, StepView, TimelineView, VerdictView, WindowView,
};

use crate::{
    arguments::{Arguments, Command},
    kind::Kind,
    output::Format,
    render::{describe, page::plain, rows, status, why},
};

fn now() -> Timestamp {
    "2026-11-22T10:10:00Z".parse().unwrap()
}

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split(' '))
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn the_documented_calls_are_understood() {
    for call in [
        "quell",
        "quell --profile P token create --ttl 10m --uses 3 --label role=orders",
        "quell get hosts -o json",
        "quell get incidents -o json --all",
        "quell get policies -l role=dns -o wide --watch",
        "quell get plan plan-7 -o name",
        "quell describe incident inc-1",
        "quell explain policy.trigger",
        "quell new dns",
        "quell check -f deploy/policies/",
        "quell diff -f deploy/policies/ --exit-code",
        "quell apply -f deploy/policies/",
        "quell apply -f a.yaml -f b --prune --dry-run --set port=53 --set path=/a=b --values FILE",
        "quell run service.restart -l role=web --set service=nginx --waves 1,2,4 --dry-run --wait",
        "quell approve plan-7 --choose failover --reason seen --hash abc",
        "quell deny plan-7 --reason no",
        "quell cancel plan-7 --reason wrong-hosts",
        "quell ack inc-1 --note mine",
        "quell note inc-1 the disk was replaced",
        "quell why order-backlog planthost1 -o json",
        "quell why order-backlog planthost1 --at 2026-11-22T03:10:00Z",
        "quell promote dns-failover --to propose",
        "quell promote plants/dns-failover --to enforce -f policies/ --set port=53 --yes",
        "quell hold planthost1 --for 2h --reason maintenance",
        "quell freeze -l role=web --for 1h --reason release",
        "quell freeze --all --for 1h --reason release",
        "quell thaw win-3",
        "quell thaw --all",
        "quell events --follow -o json",
        "quell events --from 12",
        "quell audit verify --since kept.head",
        "quell audit head",
        "quell audit export --from 3 --to 9",
        "quell audit export --since 2026-11-22T10:00:00Z",
        "quell host revoke planthost1 --reason stolen",
        "quell host label planthost1 role=web zone-",
        "quell host retire planthost1 --reason sold",
        "quell operator create ghammer --role admin --ttl 30d --to FILE",
        "quell operator revoke ghammer --reason left",
        "quell breaker reset dns-failover --reason repaired",
        "quell completions bash",
        "quell man DIR",
        "quell get hosts --log-format json",
    ] {
        parse(call).unwrap_or_else(|error| panic!("{call}: {error}"));
    }
}

#[test]
fn what_could_widen_a_scope_must_be_said() {
    for call in [
        "quell run service.restart",
        "quell freeze --for 1h --reason x",
        "quell freeze -l role=web --all --for 1h --reason x",
        "quell freeze --all --reason x",
        "quell hold planthost1 --reason x",
        "quell hold planthost1 --for 2 --reason x",
        "quell hold planthost1 --for 2h",
        "quell cancel plan-7",
        "quell cancel --reason x",
        "quell thaw",
        "quell thaw win-3 --all",
        "quell apply",
        "quell get everything",
        "quell token create --uses 0",
        "quell token create --label role",
        "quell operator create x",
        "quell breaker reset x",
        "quell host revoke x",
        "quell host retire x",
        "quell operator revoke x",
        "quell run exec -l all --waves 0",
        "quell promote dns-failover",
        "quell promote dns-failover --to observe",
    ] {
        let error = parse(call).expect_err(call);
        assert_eq!(error.exit_code(), 2, "{call}: {error}");
    }
}

#[test]
fn options_are_understood_after_the_command() {
    let arguments = parse("quell get host -o yaml --profile P").unwrap();
    assert_eq!(arguments.output, Format::Yaml);
    assert_eq!(arguments.profile.as_deref(), Some(std::path::Path::new("P")));
    let Some(Command::Get(get)) = arguments.command else { panic!("not get") };
    assert_eq!(get.kind, Kind::Hosts);
}

fn held() -> HoldView {
    HoldView {
        what: "plan-7".to_owned(),
        guard: "calendar".to_owned(),
        reason: "business-hours is closed".to_owned(),
        until: Some("2026-11-22T12:40:00Z".to_owned()),
        since: Some("2026-11-22T10:00:00Z".to_owned()),
    }
}

fn plan() -> PlanView {
    PlanView {
        id: "plan-7".to_owned(),
        hash: "0123456789abcdef".repeat(4),
        incident: Some("inc-1".to_owned()),
        policy: "plants/dns-failover".to_owned(),
        rung: "failover".to_owned(),
        state: "proposed".to_owned(),
        created_at: "2026-11-22T10:00:00Z".to_owned(),
        steps: vec![StepView {
            action: "dns.failover".to_owned(),
            host: "opshost".to_owned(),
            parameters: r#"{"from":"dns1","to":"dns2"}"#.to_owned(),
            outcome: "refused".to_owned(),
            summary: "dns.failover is not allowed here\u{1b}[2J".to_owned(),
            items: vec![PreviewItemView {
                verb: "switch".to_owned(),
                object: "dns2\u{1b}[2K".to_owned(),
                size_bytes: 4 << 20,
                detail: "from dns1".to_owned(),
                moving: false,
            }],
            previewed: Some(true),
            remedy: Some("[allow]\nactions = [\"dns.failover\"]".to_owned()),
            duration_ms: 12,
            ..StepView::default()
        }],
        values: [("active".to_owned(), "dns1".to_owned())].into(),
        verification: "not yet".to_owned(),
        hold: Some(held()),
        approvals: vec![ApprovalView {
            at: "2026-11-22T10:05:00Z".to_owned(),
            who: "ghammer".to_owned(),
            role: "networking".to_owned(),
            choice: "failover".to_owned(),
            reason: "seen".to_owned(),
            denied: false,
        }],
        needs: Some("1 of role networking".to_owned()),
        ..PlanView::default()
    }
}

fn incident() -> IncidentView {
    IncidentView {
        id: "inc-1".to_owned(),
        problem: "dns-down".to_owned(),
        target: "fleet".to_owned(),
        policies: vec!["plants/dns-failover".to_owned()],
        state: "open".to_owned(),
        opened_at: "2026-11-22T09:55:00Z".to_owned(),
        severity: "page".to_owned(),
        summary: "The active DNS server does not answer.".to_owned(),
        plans: vec![plan()],
        notes: vec![NoteView {
            at: "2026-11-22T10:01:00Z".to_owned(),
            who: "ghammer".to_owned(),
            text: "I look at it\nnow".to_owned(),
        }],
        timeline: vec![TimelineView {
            at: "2026-11-22T09:55:00.125Z".to_owned(),
            sequence: 12,
            text: "opened: signal.dead is true".to_owned(),
        }],
        hold: Some(held()),
        ..IncidentView::default()
    }
}

fn answer() -> GetResponse {
    GetResponse {
        hosts: vec![
            HostView {
                name: "planthost1".to_owned(),
                state: "online".to_owned(),
                labels: [("role".to_owned(), "orders".to_owned()), ("zone".to_owned(), "a".to_owned())].into(),
                agent_version: "0.1.0".to_owned(),
                last_seen: Some("2026-11-22T10:09:58Z".to_owned()),
                samples: 1234,
                host_id: "h-1".to_owned(),
                facts: [("kernel".to_owned(), "6.8\u{7}".to_owned())].into(),
                ..HostView::default()
            },
            HostView {
                name: "a-host-with-a-very-long-name-that-goes-on.department.example.org".to_owned(),
                state: "lost".to_owned(),
                labels: (0..6).map(|number| (format!("label{number}"), "a-long-value".to_owned())).collect(),
                held: Some("its administrator".to_owned()),
                ..HostView::default()
            },
        ],
        policies: vec![PolicyView {
            namespace: "plants".to_owned(),
            name: "dns-failover".to_owned(),
            mode: "enforce".to_owned(),
            effective_mode: "propose".to_owned(),
            description: "The active DNS server does not answer.".to_owned(),
            breaker: Some("three failures in an hour".to_owned()),
            defaults: vec!["guards.budget=3 per target and 10 per policy in 24h".to_owned()],
            ..PolicyView::default()
        }],
        incidents: vec![incident()],
        plans: vec![plan()],
        holds: vec![held()],
        windows: vec![WindowView {
            id: "win-3".to_owned(),
            kind: "freeze".to_owned(),
            scope: "role=web".to_owned(),
            reason: "release".to_owned(),
            until: "2026-11-22T11:00:00Z".to_owned(),
            who: "ghammer".to_owned(),
            active: true,
            ..WindowView::default()
        }],
        ..GetResponse::default()
    }
}

#[test]
fn tables() {
    let mut text = String::new();
    for kind in [Kind::Hosts, Kind::Policies, Kind::Incidents, Kind::Plans, Kind::Approvals, Kind::Holds, Kind::Windows]
    {
        let table = rows::list(kind, &answer(), false, now()).unwrap().table;
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        text.push_str(&format!("{table}\n"));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn wide_tables_show_more() {
    let answer = answer();
    for kind in [Kind::Hosts, Kind::Policies, Kind::Incidents, Kind::Plans, Kind::Approvals, Kind::Holds, Kind::Windows]
    {
        let narrow = rows::list(kind, &answer, false, now()).unwrap().table;
        let wide = rows::list(kind, &answer, true, now()).unwrap().table;
        let headings =
            |table: &str| table.lines().next().unwrap_or_default().split("  ").filter(|cell| !cell.is_empty()).count();
        assert!(headings(&wide) > headings(&narrow), "{wide}");
    }
}

#[test]
fn names_are_those_that_other_commands_take() {
    let names = |kind| rows::list(kind, &answer(), false, now()).unwrap().names;
    assert_eq!(names(Kind::Policies), ["plants/dns-failover"]);
    assert_eq!(names(Kind::Incidents), ["inc-1"]);
    assert_eq!(names(Kind::Approvals), ["plan-7"]);
}

#[test]
fn items_are_the_views_of_the_wire() {
    let items = rows::list(Kind::Hosts, &answer(), false, now()).unwrap().items;
    assert_eq!(items[0]["name"], "planthost1");
    assert_eq!(items[0]["agentVersion"], "0.1.0");
    assert_eq!(items[0]["lastSeen"], "2026-11-22T10:09:58Z");
    assert_eq!(items[0]["samples"], 1234);
    assert_eq!(items[0]["labels"]["role"], "orders");
    let approvals = rows::list(Kind::Approvals, &answer(), false, now()).unwrap().items;
    assert_eq!(approvals[0]["id"], "plan-7");
}

#[test]
fn descriptions() {
    let text = describe::draw(&answer(), now());
    assert!(!plain(&text).contains('\u{1b}'), "hostile text reached the page");
    insta::assert_snapshot!(plain(&text));
}

#[test]
fn statuses() {
    let full = StatusView {
        approvals: vec![plan()],
        incidents: vec![incident()],
        holds: vec![held()],
        windows: answer().windows,
        hosts_online: 2,
        hosts_lost: 1,
        policies: 9,
        warnings: vec!["the disk is nearly full".to_owned()],
        controller_version: "0.1.0".to_owned(),
        ..StatusView::default()
    };
    let calm =
        StatusView { hosts_online: 3, policies: 1, controller_version: "0.1.0".to_owned(), ..StatusView::default() };
    let text = format!("{}\n---\n{}", status::draw(&full, now()), status::draw(&calm, now()));
    insta::assert_snapshot!(plain(&text));
}

#[test]
fn reasons() {
    let verdict = VerdictView {
        policy: "plants/order-backlog".to_owned(),
        target: "planthost1".to_owned(),
        verdict: "held".to_owned(),
        summary: "It would restart orders, and waits for the opening of business-hours.".to_owned(),
        first_no: Some(GuardView {
            guard: "calendar".to_owned(),
            allows: false,
            reason: "business-hours is closed".to_owned(),
            until: Some("2026-11-23T09:00:00Z".to_owned()),
        }),
        guards: vec![
            GuardView { guard: "cooldown".to_owned(), allows: true, ..GuardView::default() },
            GuardView { guard: "budget".to_owned(), allows: true, ..GuardView::default() },
            GuardView {
                guard: "calendar".to_owned(),
                allows: false,
                reason: "business-hours is closed".to_owned(),
                until: None,
            },
        ],
        signals: vec![SignalView {
            name: "backlog".to_owned(),
            value: "true".to_owned(),
            expression: "probe.outstanding.value > 12".to_owned(),
            quorum: "2 of 3".to_owned(),
            saw: vec!["planthost1 probe.outstanding.value = \"15\u{1b}[2J\"".to_owned()],
            since: None,
        }],
        condition: "signal.backlog".to_owned(),
        since: Some("2026-11-22T10:00:00Z".to_owned()),
        incident: Some("inc-3".to_owned()),
        plan: None,
        past: Some(PastView {
            at: "2026-11-22T10:05:00Z".to_owned(),
            record: Some(17),
            changed_at: None,
            left_out: 0,
            built_from: "record 17".to_owned(),
        }),
    };
    let text = plain(&why::draw(&[verdict], now()));
    assert!(!text.contains('\u{1b}'), "hostile text reached the page");
    insta::assert_snapshot!(text);
}

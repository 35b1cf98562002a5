//! What a session promises to an agent, and what an agent cannot do to the controller.

use std::time::Duration;

use quell_engine::state::HostState;
use quell_model::{digest::Digest, preview::Item, selector::Selector, trust::run::Run};
use quell_wire::{
    PROTOCOL,
    v1::{
        ActionStarted, AgentMessage, ApplyRequest, ChangeHostRequest, Field, GetRequest, Heartbeat, Hello, HostHold,
        LogTail, ManifestFile, NewerView, Outcome, OutcomeKind, Preview, PreviewItem, Sample, StatusRequest,
        agent_message::Body as Said, controller_message::Body, field,
    },
};
use tonic::Code;

use crate::harness::{FakeAgent, PATIENCE, hello, message, next, open, sample, start, start_with, until};

fn outcome(sequence: u64) -> AgentMessage {
    let outcome = Outcome {
        command_id: "cmd-1".to_owned(),
        kind: OutcomeKind::Succeeded.into(),
        summary: "restarted".to_owned(),
        ..Outcome::default()
    };
    message(sequence, Said::Outcome(outcome))
}

fn number(name: &str, number: f64) -> Field {
    Field { name: name.to_owned(), value: Some(field::Value::Number(number)) }
}

#[tokio::test]
async fn an_agent_is_welcomed_and_seen() {
    let controller = start().await;
    let agent = controller.agent("planthost1").await;
    assert_eq!((agent.welcome.acknowledged, agent.welcome.protocol), (0, 1));
    assert_eq!(agent.welcome.host_every_ms, 15_000);
    assert!(!agent.welcome.installation.is_empty());
    let online = || controller.decider.state().hosts["planthost1"].state == HostState::Online;
    until("the host is online", online).await;
    drop(agent);
    until("the host is lost", || !online()).await;
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn an_acknowledgement_comes_after_the_commit_and_not_before() {
    let controller = start().await;
    let mut agent = controller.agent("planthost1").await;
    until("connected", || controller.inside.count("Connected") == 1 && !controller.inside.is_waiting()).await;
    let held = || controller.decider.state().hosts["planthost1"].held.is_some();
    controller.inside.close();
    let hold = HostHold { held: true, reason: "kernel".to_owned(), until_unix_ms: 4_102_444_800_000 };
    agent.say(message(1, Said::HostHold(hold))).await;
    until("the commit waits", || controller.inside.is_waiting()).await;
    let early = tokio::time::timeout(Duration::from_millis(100), agent.acknowledged()).await;
    assert!(early.is_err(), "acknowledged before it was durable");
    assert!(!held(), "taken in before it was durable");
    controller.inside.open();
    assert_eq!(agent.acknowledged().await, 1);
    assert!(held());
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_again_and_changes_nothing() {
    let controller = start().await;
    let mut agent = controller.agent("planthost1").await;
    for sequence in [1, 2, 1, 2, 3] {
        agent.say(outcome(sequence)).await;
    }
    let mut acknowledged = Vec::new();
    for _ in 0..5 {
        acknowledged.push(agent.acknowledged().await);
    }
    assert_eq!(acknowledged, [1, 2, 2, 2, 3]);
    assert_eq!(controller.inside.count("Ended"), 3);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_message_that_overtook_another_is_refused_and_comes_again_after_it() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    let mut agent = FakeAgent::welcomed(&identity).await;
    agent.say(outcome(1)).await;
    assert_eq!(agent.acknowledged().await, 1);
    agent.say(outcome(3)).await;
    let status = agent.end().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("message 3 came where 2 is next"), "{status}");

    let mut again = FakeAgent::welcomed(&identity).await;
    again.say(outcome(2)).await;
    again.say(outcome(3)).await;
    assert_eq!((again.acknowledged().await, again.acknowledged().await), (2, 3));
    assert_eq!(controller.inside.count("Ended"), 3);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_session_of_a_host_replaces_the_first_without_the_host_being_gone() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    let mut first = FakeAgent::welcomed(&identity).await;
    let mut second = FakeAgent::welcomed(&identity).await;
    let status = first.end().await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    second.say(outcome(1)).await;
    assert_eq!(second.acknowledged().await, 1);
    assert_eq!(controller.inside.count("Disconnected"), 0);
    assert_eq!(controller.inside.count("Connected"), 2);
    controller.stop().await.unwrap();
}

/// What an older connection says was said before: a decision by it would count out orders that the agent has by now.
#[tokio::test]
async fn a_hello_that_comes_late_on_an_older_connection_is_refused() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    let (first, mut to_first) = open(&identity).await.unwrap();
    let (second, mut to_second) = open(&identity).await.unwrap();
    let mut agent = FakeAgent::welcomed(&identity).await;
    first.send(hello()).await.unwrap();
    let refused = next(&mut to_first).await.unwrap_err();
    assert!(refused.code() == Code::Aborted && refused.message().contains("newer connection"), "{refused}");
    agent.say(outcome(1)).await;
    assert_eq!(agent.acknowledged().await, 1, "its session goes on");

    drop(agent);
    until("the newest is gone", || controller.inside.count("Disconnected") == 1).await;
    second.send(hello()).await.unwrap();
    let refused = next(&mut to_second).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    assert_eq!(controller.inside.count("Connected"), 1);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_revoked_host_is_cut_within_a_second_and_does_not_come_back() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    let mut agent = FakeAgent::welcomed(&identity).await;
    let mut operator = controller.operator().await;
    let request = ChangeHostRequest {
        name: "planthost1".to_owned(),
        change: "revoke".to_owned(),
        reason: "stolen".to_owned(),
        ..ChangeHostRequest::default()
    };
    let revoked = operator.change_host(request).await.unwrap().into_inner();
    assert_eq!(revoked.host.unwrap().state, "revoked");
    let cut = tokio::time::timeout(Duration::from_secs(1), agent.end()).await.expect("not cut within a second");
    assert!(cut.is_err());
    let refused = match open(&identity).await {
        Err(status) => status,
        Ok((outbound, mut inbound)) => {
            let _ = outbound.send(hello()).await;
            next(&mut inbound).await.unwrap_err()
        }
    };
    assert!(refused.message().contains("revoked"), "{refused}");
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_does_not_read_is_ended_before_it_costs_memory() {
    let controller = start().await;
    let agent = controller.agent("planthost1").await;
    until("connected", || controller.inside.count("Connected") == 1).await;
    // Each is answered with an acknowledgement of about a dozen bytes, and nobody reads: flow control fills first, then
    // what may wait.
    let flood = async {
        for sequence in 1..200_000 {
            let tail = LogTail { request_id: "msg-1".to_owned(), ..LogTail::default() };
            if agent.outbound.send(message(sequence, Said::LogTail(tail))).await.is_err() {
                break;
            }
            if controller.inside.count("Disconnected") > 0 {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE * 3, flood).await.expect("the flood does not end");
    until("the session ended", || controller.inside.count("Disconnected") == 1).await;
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn samples_are_counted_and_spooled_ones_are_not_judged() {
    let controller = start().await;
    let agent = controller.agent("planthost1").await;
    let full = Sample { probe: "host".into(), full: true, fields: vec![number("load.1", 0.5)], ..Sample::default() };
    agent.say(sample(full.clone())).await;
    agent.say(sample(Sample { full: false, fields: vec![number("load.5", 0.25)], ..full.clone() })).await;
    agent.say(sample(Sample { spooled: true, age_ms: 60_000, ..full })).await;
    agent.say(message(0, Said::Heartbeat(Heartbeat { dropped: 7, ..Heartbeat::default() }))).await;
    let mut operator = controller.operator().await;
    let request = GetRequest { kind: "hosts".to_owned(), ..GetRequest::default() };
    let host = loop {
        let hosts = operator.get(request.clone()).await.unwrap().into_inner().hosts;
        if hosts[0].dropped_samples == 7 {
            break hosts[0].clone();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert_eq!(host.samples, 3);
    until("what is judged was decided", || controller.inside.count("Samples") == 2).await;
    assert!(host.last_seen.is_some());
    controller.stop().await.unwrap();
}

/// Everything that an agent can say wrongly, and a word of what it is told.
fn nonsense() -> Vec<(&'static str, AgentMessage)> {
    let preview = Preview { command_id: "cmd-1".into(), digest: vec![1], ..Preview::default() };
    let unknown = Outcome { command_id: "cmd-1".into(), kind: 99, ..Outcome::default() };
    let nameless = Outcome { command_id: "17".into(), kind: 1, ..Outcome::default() };
    let difference = Sample { probe: "p".into(), fields: vec![number("a", 1.0)], ..Sample::default() };
    let probeless = Sample { full: true, ..Sample::default() };
    let empty = Field { name: "a".into(), value: None };
    let valueless = Sample { probe: "p".into(), full: true, fields: vec![empty], ..Sample::default() };
    vec![
        ("body", AgentMessage { sequence: 0, body: None }),
        ("Hello came twice", hello()),
        ("32 bytes", message(1, Said::Preview(preview))),
        ("99 is not known", message(1, Said::Outcome(unknown))),
        ("cmd-1", message(1, Said::Outcome(nameless))),
        ("cmd-1", message(1, Said::Started(ActionStarted::default()))),
        ("msg-1", message(1, Said::LogTail(LogTail::default()))),
        (
            "until_unix_ms",
            message(1, Said::HostHold(HostHold { held: true, until_unix_ms: i64::MAX, ..HostHold::default() })),
        ),
        ("must be full", sample(difference)),
        ("0 bytes long", sample(probeless)),
        ("value of a field", sample(valueless)),
    ]
}

#[tokio::test]
async fn whatever_makes_no_sense_is_one_clear_error_and_the_controller_goes_on() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    for (word, wrong) in nonsense() {
        let mut agent = FakeAgent::welcomed(&identity).await;
        agent.say(wrong.clone()).await;
        let status = agent.end().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}: {status}");
        assert!(status.message().contains(word) && !status.message().contains('\n'), "{wrong:?}: {status}");
    }
    let mut agent = FakeAgent::welcomed(&identity).await;
    agent.say(outcome(1)).await;
    assert_eq!(agent.acknowledged().await, 1);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_session_begins_with_hello_of_a_protocol() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    for (code, first) in
        [(Code::InvalidArgument, outcome(1)), (Code::FailedPrecondition, message(0, Said::Hello(Hello::default())))]
    {
        let (outbound, mut inbound) = open(&identity).await.unwrap();
        outbound.send(first).await.unwrap();
        let status = next(&mut inbound).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
    }
    let (outbound, mut inbound) = open(&identity).await.unwrap();
    drop(outbound);
    let status = next(&mut inbound).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(controller.inside.count("Connected"), 0);
    controller.stop().await.unwrap();
}

/// An agent of two versions before says nothing that came since; one of a later version may say more than is understood here.
#[tokio::test]
async fn agents_of_other_versions_are_served_in_the_protocol_that_both_know() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    for protocol in PROTOCOL.saturating_sub(2).max(1)..=PROTOCOL + 2 {
        let (outbound, mut inbound) = open(&identity).await.unwrap();
        let capabilities = vec!["probe.of-tomorrow".to_owned()];
        let said = Hello { protocol, capabilities, ..Hello::default() };
        outbound.send(message(0, Said::Hello(said))).await.unwrap();
        let first = next(&mut inbound).await.unwrap().and_then(|message| message.body);
        let Some(Body::Welcome(welcome)) = first else { panic!("{protocol}: {first:?}") };
        assert_eq!(welcome.protocol, protocol.min(PROTOCOL));
        outbound.send(outcome(u64::from(protocol))).await.unwrap();
        let mut agent = FakeAgent { outbound, inbound, welcome };
        assert_eq!(agent.acknowledged().await, u64::from(protocol));
    }
    controller.stop().await.unwrap();
}

/// As after a restore from an older backup. What makes no sense is no reason to turn a host away: people are told, no more.
#[tokio::test]
async fn what_a_host_says_that_it_has_seen_is_shown_until_it_is_here() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    let mut operator = controller.operator().await;
    let nonsense = (0..2_000).map(|number| (format!("no/set/{number}"), u64::MAX));
    let set_versions = nonsense.chain([("plants".to_owned(), 1)]).collect();
    let (outbound, mut inbound) = open(&identity).await.unwrap();
    let said = Hello { protocol: PROTOCOL, set_versions, ..Hello::default() };
    outbound.send(message(0, Said::Hello(said))).await.unwrap();
    let first = next(&mut inbound).await.unwrap().and_then(|message| message.body);
    assert!(matches!(first, Some(Body::Welcome(_))), "{first:?}");
    until("it is taken in", || !controller.decider.state().hosts["planthost1"].seen_newer.is_empty()).await;

    let hosts = GetRequest { kind: "hosts".to_owned(), ..GetRequest::default() };
    let shown = operator.get(hosts.clone()).await.unwrap().into_inner().hosts.remove(0).newer;
    let expected = NewerView { what: "the signed set of plants".to_owned(), seen: 1, here: 0 };
    assert_eq!(shown, [expected]);
    let warnings = operator.status(StatusRequest {}).await.unwrap().into_inner().warnings;
    let says = |warning: &String| {
        warning.starts_with("planthost1 says that it has seen version 1 of the signed set of plants")
    };
    assert!(warnings.iter().any(says), "{warnings:?}");

    let text =
        "apiVersion: quell/v1\nkind: Contact\nmetadata: { namespace: plants, name: on-call }\nspec: { via: [log] }\n";
    let files = vec![ManifestFile { name: "a.yaml".to_owned(), text: text.to_owned() }];
    let applied = operator.apply(ApplyRequest { files, ..ApplyRequest::default() }).await.unwrap().into_inner();
    assert_eq!(applied.errors, []);
    assert_eq!(operator.get(hosts).await.unwrap().into_inner().hosts.remove(0).newer, []);
    let warnings = operator.status(StatusRequest {}).await.unwrap().into_inner().warnings;
    assert!(!warnings.iter().any(says), "{warnings:?}");
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_says_nothing_loses_its_session() {
    let controller = start_with(|config| config.agents.silence = Duration::from_millis(200)).await;
    let mut agent = controller.agent("planthost1").await;
    let status = agent.end().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    until("the host is lost", || controller.decider.state().hosts["planthost1"].state == HostState::Lost).await;
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_controller_that_stops_asks_its_agents_to_come_back_and_does_not_report_them_gone() {
    let controller = start().await;
    let mut agent = controller.agent("planthost1").await;
    until("connected", || controller.inside.count("Connected") == 1).await;
    controller.ask_to_stop();
    let go_away = loop {
        let message = next(&mut agent.inbound).await.unwrap().expect("a go-away");
        if let Some(Body::GoAway(go_away)) = message.body {
            break go_away;
        }
    };
    assert!(go_away.retry_after_ms > 0 && go_away.reason.contains("stops"));
    agent.end().await.unwrap();
    let inside = controller.inside.clone();
    controller.stop().await.unwrap();
    assert_eq!(inside.count("Disconnected"), 0);
}

/// The next command; other messages are passed over.
pub(crate) async fn command(agent: &mut FakeAgent) -> quell_wire::v1::Command {
    loop {
        let message = next(&mut agent.inbound).await.unwrap().expect("the stream goes on");
        if let Some(Body::Command(command)) = message.body {
            return command;
        }
    }
}

/// The agent says what it would touch, as it is asked before people are.
pub(crate) async fn answer_preview(agent: &mut FakeAgent) {
    let question = command(agent).await;
    assert!(question.preview_only, "{question:?}");
    let item =
        Item { verb: "run".to_owned(), object: "/bin/cool".to_owned(), size: 0, detail: String::new(), moving: false };
    let shown = PreviewItem { verb: item.verb.clone(), object: item.object.clone(), ..PreviewItem::default() };
    let digest = quell_model::preview::digest(&[item]).0.to_vec();
    let preview = Preview { command_id: question.command_id, items: vec![shown], digest, ..Preview::default() };
    agent.say(message(1, Said::Preview(preview))).await;
}

#[tokio::test]
async fn an_order_reaches_its_agent_comes_again_after_a_break_and_ends_once() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    let mut agent = FakeAgent::welcomed(&identity).await;
    until("connected", || controller.decider.state().hosts["planthost1"].state == HostState::Online).await;
    let with = serde_json::json!({ "argv": ["/bin/true"] }).as_object().unwrap().clone();
    let hosts: Selector = "role=orders".parse().unwrap();
    let request = controller.signed(&Run::new("r-1".to_owned(), "exec".to_owned(), with, hosts));
    let mut operator = controller.operator().await;
    let plan = operator.run(request.clone()).await.unwrap().into_inner();
    assert_eq!((plan.targets, plan.hold), (1, None));
    let order = command(&mut agent).await;
    assert_eq!((order.action.as_str(), order.plan_id.as_str()), ("exec", plan.plan_id.as_str()));
    assert_eq!(order.plan_hash, Digest::of(&order.plan).0);
    assert!(order.start_within_ms > 0 && order.timeout_ms > 0 && order.fence > 0 && !order.dry_run && !order.undo);
    assert_eq!(operator.run(request).await.unwrap().into_inner().plan_id, plan.plan_id, "asked twice, run twice");

    drop(agent);
    let mut agent = FakeAgent::welcomed(&identity).await;
    let again = command(&mut agent).await;
    assert_eq!(again.idempotency_key, order.idempotency_key);
    assert!(again.fence > order.fence, "a captured order would still be good");
    let started =
        ActionStarted { command_id: again.command_id.clone(), idempotency_key: again.idempotency_key.clone() };
    agent.say(message(1, Said::Started(started))).await;
    let outcome = Outcome {
        command_id: again.command_id,
        idempotency_key: again.idempotency_key,
        kind: OutcomeKind::Succeeded.into(),
        summary: "it ran".to_owned(),
        ..Outcome::default()
    };
    agent.say(message(2, Said::Outcome(outcome))).await;
    assert_eq!((agent.acknowledged().await, agent.acknowledged().await), (1, 2));
    let get = GetRequest { kind: "plans".into(), name: plan.plan_id, ..GetRequest::default() };
    let done = operator.get(get).await.unwrap().into_inner().plans.remove(0);
    assert_eq!((done.state.as_str(), done.steps.len()), ("succeeded", 1));
    assert_eq!((done.steps[0].outcome.as_str(), done.steps[0].summary.as_str()), ("succeeded", "it ran"));
    assert_eq!(FakeAgent::welcomed(&identity).await.welcome.acknowledged, 2);
    controller.stop().await.unwrap();
}

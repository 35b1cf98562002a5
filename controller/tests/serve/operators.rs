//! What operators get from the controller, and what they are told when it makes no sense.

use quell_link::{authority, identity::Role, profile::Profile, rpc::operator_service_client::OperatorServiceClient};
use quell_model::{selector::Selector, trust::run::Run};
use quell_wire::v1::{
    ApplyRequest, CancelPlanRequest, ChangeHostRequest, ChangeTrustRequest, CreateOperatorRequest, CreateTokenRequest,
    DecideRequest, EventsRequest, GetRequest, HoldRequest, ManifestFile, ReleaseRequest, RevokeOperatorRequest,
    RunRequest, StatusRequest, WhyRequest,
};
use tonic::{Code, transport::Channel};

use crate::harness::{Running, next, start};

fn token(ttl_ms: u64, uses: u32) -> CreateTokenRequest {
    CreateTokenRequest { ttl_ms, uses, ..CreateTokenRequest::default() }
}

/// A second operator with these roles.
pub(crate) async fn colleague(controller: &Running, name: &str, roles: &[&str]) -> OperatorServiceClient<Channel> {
    let (key, csr_der) = authority::new_key().unwrap();
    let request = CreateOperatorRequest {
        name: name.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        csr_der,
        ttl_ms: 0,
    };
    let issued = controller.operator().await.create_operator(request).await.unwrap().into_inner();
    let mine = Profile::load(&controller.profile).unwrap();
    let der = |list: Vec<Vec<u8>>| list.into_iter().map(Into::into).collect::<Vec<_>>();
    let (chain, roots) = (der(issued.chain_der), der(issued.roots_der));
    let profile = Profile::new(
        name,
        &mine.installation,
        vec![controller.address.to_string()],
        &roots,
        &chain,
        key.serialize_pem(),
    );
    OperatorServiceClient::new(profile.connect().await.unwrap())
}

#[tokio::test]
async fn events_are_gap_free_and_chained_while_things_happen() {
    let controller = start().await;
    let mut operator = controller.operator().await;
    let request = EventsRequest { from: 0, follow: true, tail: false };
    let mut events = operator.events(request).await.unwrap().into_inner();
    let mut other = controller.operator().await;
    let busy = tokio::spawn(async move {
        for _ in 0..20 {
            other.create_token(token(60_000, 1)).await.unwrap();
        }
    });
    let (mut expected, mut tokens, mut previous) = (1, 0, None);
    while tokens < 20 {
        let event = next(&mut events).await.unwrap().expect("the stream goes on");
        assert_eq!(event.sequence, expected);
        if let Some(previous) = previous {
            assert_eq!(event.previous, previous);
        }
        previous = Some(event.hash);
        expected += 1;
        tokens += usize::from(event.kind == "tokenCreated");
        assert!(!event.data.contains("secret"), "{}", event.data);
    }
    busy.await.unwrap();
    let all = EventsRequest { from: 3, follow: false, tail: false };
    let mut events = operator.events(all).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await.unwrap().unwrap().sequence, 3);
    let mut last = 3;
    while let Some(event) = next(&mut events).await.unwrap() {
        last = event.sequence;
    }
    assert_eq!(last, controller.decider.head().sequence);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_follower_is_told_when_the_controller_stops() {
    let controller = start().await;
    let mut operator = controller.operator().await;
    let request = EventsRequest { from: 0, follow: true, tail: true };
    let mut events = operator.events(request).await.unwrap().into_inner();
    controller.ask_to_stop();
    let status = loop {
        match next(&mut events).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended as if there were no more"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_revoked_operator_hears_nothing_more() {
    let controller = start().await;
    let mut mira = colleague(&controller, "mira", &["viewer"]).await;
    let mut events = mira.events(EventsRequest { from: 0, follow: true, tail: false }).await.unwrap().into_inner();
    assert!(next(&mut events).await.unwrap().is_some());
    let request = RevokeOperatorRequest { name: "mira".to_owned(), reason: "left".to_owned() };
    controller.operator().await.revoke_operator(request).await.unwrap();
    controller.operator().await.create_token(token(60_000, 1)).await.unwrap();
    let mut heard_token = false;
    while let Ok(Some(event)) = next(&mut events).await {
        heard_token |= event.kind == "tokenCreated";
    }
    assert!(!heard_token, "it heard what came after the revocation");
    assert!(mira.status(StatusRequest {}).await.is_err());
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn roles_bound_what_an_operator_may_do() {
    let controller = start().await;
    let mut viewer = colleague(&controller, "vera", &["viewer"]).await;
    viewer.status(StatusRequest {}).await.unwrap();
    let refused = viewer.create_token(token(60_000, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(viewer.run(RunRequest::default()).await.unwrap_err().code(), Code::PermissionDenied);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_one_sentence() {
    let controller = start().await;
    let mut operator = controller.operator().await;
    let mut refusals = Vec::new();
    let get = |kind: &str, name: &str| GetRequest { kind: kind.into(), name: name.into(), ..GetRequest::default() };
    refusals.push((Code::InvalidArgument, operator.get(get("gadgets", "")).await.err()));
    refusals.push((Code::NotFound, operator.get(get("hosts", "nowhere")).await.err()));
    refusals.push((Code::InvalidArgument, operator.create_token(token(0, 1)).await.err()));
    refusals.push((Code::InvalidArgument, operator.create_token(token(60_000, 0)).await.err()));
    let week = 7 * 86_400_000;
    refusals.push((Code::InvalidArgument, operator.create_token(token(week + 1, 1)).await.err()));
    let why = WhyRequest { policy: "dns".into(), ..WhyRequest::default() };
    refusals.push((Code::NotFound, operator.why(why).await.err()));
    let hold = |kind: &str, name: &str, for_ms, reason: &str| HoldRequest {
        kind: kind.into(),
        name: name.into(),
        for_ms,
        reason: reason.into(),
    };
    refusals.push((Code::InvalidArgument, operator.hold(hold("hosts", "", 1_000, "x")).await.err()));
    refusals.push((Code::InvalidArgument, operator.hold(hold("hosts", "all", 1_000, "")).await.err()));
    refusals.push((Code::InvalidArgument, operator.hold(hold("hosts", "all", 0, "x")).await.err()));
    refusals.push((Code::InvalidArgument, operator.hold(hold("planet", "earth", 1_000, "x")).await.err()));
    refusals.push((Code::InvalidArgument, operator.release(ReleaseRequest::default()).await.err()));
    let decide = DecideRequest { plan: "plan-9".into(), plan_hash: "00".into(), ..DecideRequest::default() };
    refusals.push((Code::NotFound, operator.approve(decide).await.err()));
    let cancel = |plan: &str, reason: &str| CancelPlanRequest { plan: plan.into(), reason: reason.into() };
    refusals.push((Code::NotFound, operator.cancel_plan(cancel("plan-9", "x")).await.err()));
    refusals.push((Code::InvalidArgument, operator.cancel_plan(cancel("plan", "x")).await.err()));
    let run = |action: &str, with: serde_json::Value| {
        let with = with.as_object().unwrap().clone();
        controller.signed(&Run::new("r-1".to_owned(), action.to_owned(), with, Selector::All))
    };
    let good = serde_json::json!({ "argv": ["/bin/true"] });
    refusals.push((Code::InvalidArgument, operator.run(RunRequest::default()).await.err()));
    refusals.push((Code::InvalidArgument, operator.run(run("explode", good.clone())).await.err()));
    refusals.push((Code::InvalidArgument, operator.run(run("exec", serde_json::json!({}))).await.err()));
    let unsigned = RunRequest { set: None, ..run("exec", good.clone()) };
    refusals.push((Code::PermissionDenied, operator.run(unsigned).await.err()));
    let other = RunRequest { run: run("exec", serde_json::json!({ "argv": ["/bin/false"] })).run, ..run("exec", good) };
    refusals.push((Code::PermissionDenied, operator.run(other).await.err()));
    let label = ChangeHostRequest { name: "nowhere".into(), change: "label".into(), ..Default::default() };
    refusals.push((Code::InvalidArgument, operator.change_host(label).await.err()));
    let planted = ChangeTrustRequest { trust_root: b"{}".to_vec(), signatures: Vec::new() };
    refusals.push((Code::PermissionDenied, operator.change_trust(planted).await.err()));
    let host = |change: &str| ChangeHostRequest {
        name: "nowhere".into(),
        change: change.into(),
        reason: "x".into(),
        ..ChangeHostRequest::default()
    };
    refusals.push((Code::InvalidArgument, operator.change_host(host("explode")).await.err()));
    refusals.push((Code::NotFound, operator.change_host(host("revoke")).await.err()));
    refusals.push((Code::InvalidArgument, operator.apply(ApplyRequest::default()).await.err()));
    let operator_request =
        CreateOperatorRequest { name: "a:b".into(), roles: vec!["viewer".into()], ..Default::default() };
    refusals.push((Code::InvalidArgument, operator.create_operator(operator_request).await.err()));
    for (index, (code, status)) in refusals.into_iter().enumerate() {
        let status = status.unwrap_or_else(|| panic!("number {index} was not refused"));
        assert_eq!(status.code(), code, "number {index}: {status}");
        assert!(!status.message().is_empty() && !status.message().contains('\n'), "number {index}: {status}");
    }
    controller.stop().await.unwrap();
}

/// A colleague's run waits for a host that is not connected; an operator calls it off, a viewer may not.
#[tokio::test]
async fn a_plan_is_called_off_by_those_who_may_act() {
    let controller = start().await;
    let mut operator = controller.operator().await;
    let _never_connected = controller.join("planthost1").await;
    let with = serde_json::json!({ "argv": ["/bin/true"] }).as_object().unwrap().clone();
    let run = controller.signed(&Run::new("r-1".to_owned(), "exec".to_owned(), with, Selector::All));
    let made = operator.run(run).await.unwrap().into_inner();
    assert_eq!(made.hold.as_ref().map(|hold| hold.guard.as_str()), Some("online"), "{made:?}");
    let request = |reason: &str| CancelPlanRequest { plan: made.plan_id.clone(), reason: reason.into() };
    let mut viewer = colleague(&controller, "vera", &["viewer"]).await;
    assert_eq!(viewer.cancel_plan(request("x")).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(operator.cancel_plan(request("")).await.unwrap_err().code(), Code::InvalidArgument);
    let mut mira = colleague(&controller, "mira", &["operator"]).await;
    let plan = mira.cancel_plan(request("not that one")).await.unwrap().into_inner().plan.unwrap();
    assert_eq!((plan.state.as_str(), plan.verification.as_str()), ("cancelled", "called off by mira: not that one"));
    assert!(plan.steps.iter().all(|step| step.outcome == "notStarted"), "{plan:?}");
    let over = mira.cancel_plan(request("again")).await.unwrap_err();
    assert_eq!(over.code(), Code::FailedPrecondition, "{over}");
    let request = EventsRequest { from: 0, follow: false, tail: false };
    let mut events = operator.events(request).await.unwrap().into_inner();
    let mut by_whom = None;
    while let Some(event) = next(&mut events).await.unwrap() {
        if event.kind == "planCancelled" {
            by_whom = Some(event.actor);
        }
    }
    assert!(by_whom.as_deref().is_some_and(|actor| actor.contains("mira")), "{by_whom:?}");
    controller.stop().await.unwrap();
}

pub(crate) const SERVICE: &str = "apiVersion: quell/v1\nkind: Service\nmetadata: { namespace: plants, name: dns }\nspec:\n  members: { matchLabels: { role: dns } }\n  keepHealthy: 0\n";

pub(crate) fn file(name: &str, text: &str) -> ManifestFile {
    ManifestFile { name: name.to_owned(), text: text.to_owned() }
}

#[tokio::test]
async fn manifests_are_applied_together_or_not_at_all() {
    let controller = start().await;
    let mut operator = controller.operator().await;
    let broken =
        file("b.yaml", "apiVersion: quell/v1\nkind: Service\nmetadata: { namespace: plants, nam: x }\nspec: {}\n");
    let request = ApplyRequest { files: vec![file("a.yaml", SERVICE), broken], ..ApplyRequest::default() };
    let head = controller.decider.head().sequence;
    let answer = operator.apply(request).await.unwrap().into_inner();
    assert!(answer.changes.is_empty());
    let error = answer.errors.first().expect("an error");
    assert_eq!((error.file.as_str(), error.line), ("b.yaml", 3));
    assert_eq!(controller.decider.head().sequence, head, "something was applied");

    let request = ApplyRequest { files: vec![file("a.yaml", SERVICE)], ..ApplyRequest::default() };
    let dry = operator.apply(ApplyRequest { dry_run: true, ..request.clone() }).await.unwrap().into_inner();
    assert_eq!(dry.changes[0].change, "created");
    assert_eq!(controller.decider.head().sequence, head, "a dry run applied something");
    let done = operator.apply(request.clone()).await.unwrap().into_inner();
    assert_eq!((done.errors.len(), done.changes[0].change.as_str()), (0, "created"));
    assert!(controller.decider.head().sequence > head);
    let again = operator.apply(request).await.unwrap().into_inner();
    assert_eq!(again.changes[0].change, "unchanged");
    assert_eq!(again.sequence, done.sequence);
    let get = GetRequest { kind: "services".into(), ..GetRequest::default() };
    assert_eq!(operator.get(get).await.unwrap().into_inner().manifests[0].name, "dns");
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn pruning_removes_what_the_files_do_not_hold_and_nothing_that_is_referred_to() {
    let controller = start().await;
    let mut operator = controller.operator().await;
    let web = SERVICE.replace("name: dns", "name: web").replace("spec:\n", "spec:\n  dependsOn: [dns]\n");
    let both = vec![file("dns.yaml", SERVICE), file("web.yaml", &web)];
    let request = |files| ApplyRequest { files, prune: true, ..ApplyRequest::default() };
    let answer = operator.apply(request(both)).await.unwrap().into_inner();
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    let answer = operator.apply(request(vec![file("web.yaml", &web)])).await.unwrap().into_inner();
    let error = answer.errors.first().expect("an error");
    assert!(error.message.contains("dns") && error.file == "web.yaml" && error.line == 3, "{error:?}");
    let answer = operator.apply(request(vec![file("dns.yaml", SERVICE)])).await.unwrap().into_inner();
    let removed: Vec<&str> =
        answer.changes.iter().filter(|change| change.change == "removed").map(|change| change.name.as_str()).collect();
    assert_eq!(removed, ["web"]);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_watch_sends_a_list_when_something_in_it_changed() {
    let controller = start().await;
    let mut operator = controller.operator().await;
    let request = GetRequest { kind: "tokens".into(), ..GetRequest::default() };
    let mut lists = operator.watch(request).await.unwrap().into_inner();
    assert!(next(&mut lists).await.unwrap().unwrap().tokens.is_empty());
    controller.operator().await.create_token(token(60_000, 1)).await.unwrap();
    assert_eq!(next(&mut lists).await.unwrap().unwrap().tokens.len(), 1);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn an_agent_cannot_call_what_operators_call() {
    let controller = start().await;
    let identity = controller.join("planthost1").await;
    let channel = quell_link::client::connect_agent(&identity.addresses, &identity).await.unwrap();
    let refused = OperatorServiceClient::new(channel).status(StatusRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let role = Role::Agent { name: identity.name.clone(), host_id: identity.host_id.clone() };
    assert!(refused.message().contains(&role.to_string()), "{refused}");
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn health_and_reflection_answer_those_who_may_ask() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };

    let controller = start().await;
    let _admitted = controller.operator().await;
    let operator = Profile::load(&controller.profile).unwrap().connect().await.unwrap();
    for service in ["", "quell.v1.AgentService", "quell.v1.OperatorService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = HealthClient::new(operator.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving, "{service}");
    }
    let list = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        tokio_stream::once(ServerReflectionRequest { host: String::new(), message_request })
    };
    let mut answers = ServerReflectionClient::new(operator).server_reflection_info(list()).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(services)) =
        next(&mut answers).await.unwrap().unwrap().message_response
    else {
        panic!("not a list of services");
    };
    assert!(services.service.iter().any(|service| service.name == "quell.v1.OperatorService"));

    let identity = controller.join("planthost1").await;
    let agent = quell_link::client::connect_agent(&identity.addresses, &identity).await.unwrap();
    let refused = ServerReflectionClient::new(agent).server_reflection_info(list()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    controller.stop().await.unwrap();
}

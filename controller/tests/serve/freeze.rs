//! A freeze takes effect within a second, and survives a restart of the controller.

use std::{sync::Arc, time::Duration};

use quell_engine::id::PlanId;
use quell_link::client::AgentIdentity;
use quell_model::{selector::Selector, trust::run::Run};
use quell_wire::v1::{Command, HoldRequest, ReleaseRequest, RunRequest, controller_message::Body};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    harness::{FakeAgent, PATIENCE, Running, next, start_on_disk, until},
    session::command,
};

/// How soon it takes effect.
const SOON: Duration = Duration::from_secs(1);

fn run(controller: &Running, id: &str) -> RunRequest {
    let with = serde_json::json!({ "argv": ["/bin/true"] }).as_object().unwrap().clone();
    controller.signed(&Run::new(id.to_owned(), "exec".to_owned(), with, Selector::All))
}

/// Freezes everything; says when that was answered.
async fn freeze(controller: &Running) -> Instant {
    let (kind, name, reason) = ("hosts".to_owned(), "all".to_owned(), "an outage".to_owned());
    let request = HoldRequest { kind, name, for_ms: 3_600_000, reason };
    controller.operator().await.hold(request).await.unwrap();
    Instant::now()
}

async fn thaw(controller: &Running) {
    let request = ReleaseRequest { all: true, reason: "it is over".to_owned(), ..ReleaseRequest::default() };
    controller.operator().await.release(request).await.unwrap();
}

/// The guard that holds a plan.
fn holder(controller: &Running, plan: &str) -> Option<String> {
    let plan: PlanId = plan.parse().unwrap();
    controller.decider.state().plans[&plan].hold.as_ref().map(|hold| hold.guard.clone())
}

/// The agent is connected, a second passes, and it is told to do nothing.
async fn is_left_alone(controller: &Running, agent: &mut FakeAgent, plans: &[&str]) {
    for plan in plans {
        until("the freeze holds the plan", || holder(controller, plan).as_deref() == Some("freeze")).await;
    }
    let order = timeout(SOON, command(agent)).await;
    assert!(order.is_err(), "sent while everything is frozen: {order:?}");
}

async fn connect(controller: &Running, identity: &Arc<AgentIdentity>) -> FakeAgent {
    let agent = FakeAgent::welcomed(identity).await;
    until("connected", || controller.inside.count("Connected") > 0).await;
    agent
}

#[tokio::test]
async fn what_waits_is_not_sent_after_a_freeze_nor_after_a_restart_until_the_thaw() {
    let controller = start_on_disk().await;
    let identity = controller.join("planthost1").await;
    let request = run(&controller, "r-1");
    let made = controller.operator().await.run(request).await.unwrap().into_inner();
    assert_eq!(made.hold.unwrap().guard, "online", "it waits for its host");
    let first = made.plan_id;
    freeze(&controller).await;
    let mut agent = connect(&controller, &identity).await;
    is_left_alone(&controller, &mut agent, &[&first]).await;
    let request = run(&controller, "r-2");
    let made = controller.operator().await.run(request).await.unwrap().into_inner();
    assert_eq!(made.hold.unwrap().guard, "freeze");
    let second = made.plan_id;

    drop(agent);
    let controller = controller.restarted().await;
    let mut agent = connect(&controller, &identity).await;
    is_left_alone(&controller, &mut agent, &[&first, &second]).await;

    thaw(&controller).await;
    let sent = command(&mut agent).await.plan_id;
    assert!(sent == first || sent == second, "{sent}");
    controller.stop().await.unwrap();
}

/// The agent is told not to begin this, by then.
async fn is_taken_back(agent: &mut FakeAgent, order: &Command, by: Instant) {
    let told = async {
        loop {
            match next(&mut agent.inbound).await.unwrap().expect("the stream goes on").body {
                Some(Body::Cancel(cancel)) if cancel.command_id == order.command_id => return cancel.reason,
                _ => {}
            }
        }
    };
    assert_eq!(timeout_at(by, told).await.expect("not told within a second"), "an outage");
}

#[tokio::test]
async fn what_was_sent_and_not_begun_is_taken_back_and_not_sent_again() {
    let controller = start_on_disk().await;
    let identity = controller.join("planthost1").await;
    let mut agent = connect(&controller, &identity).await;
    let request = run(&controller, "r-1");
    let plan = controller.operator().await.run(request).await.unwrap().into_inner().plan_id;
    let order = command(&mut agent).await;
    let answered = freeze(&controller).await;
    is_taken_back(&mut agent, &order, answered + SOON).await;

    // It did not hear of that, and comes back with an empty journal, to another process.
    drop(agent);
    let controller = controller.restarted().await;
    let mut agent = connect(&controller, &identity).await;
    let again = timeout(SOON, command(&mut agent)).await;
    assert!(again.is_err(), "sent again while everything is frozen: {again:?}");
    let plan: PlanId = plan.parse().unwrap();
    until("it ended without having begun", || {
        let state = controller.decider.state();
        let commands = state.plans[&plan].commands.iter().filter_map(|id| state.commands.get(id));
        commands.clone().count() == 1 && commands.clone().all(|command| command.outcome.is_some())
    })
    .await;
    assert!(timeout(PATIENCE, controller.stop()).await.is_ok());
}

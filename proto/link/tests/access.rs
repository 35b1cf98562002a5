//! The table of who may call what, on real connections. That every row holds for every kind of caller, the controller's
//! tests show, where every row is served.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Controller, call};
use quell_link::access::{Caller, TABLE};
use tonic::Code;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn only_joining_and_health_can_be_called_without_a_certificate() {
    let open: Vec<_> = TABLE.iter().filter(|rule| rule.caller == Caller::Anyone).map(|rule| rule.path).collect();
    assert_eq!(open, ["/quell.v1.EnrolmentService/Join", "/grpc.health.v1.Health/Check"]);
}

fn is_refusal(result: &Result<(), tonic::Status>) -> bool {
    matches!(result, Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated))
}

#[tokio::test]
async fn what_is_not_in_the_table_is_refused_to_everybody() {
    let controller = Controller::start().await;
    let admin = controller.operator("ada", &["admin"], HOUR).connect().await.unwrap();
    for path in ["/quell.v1.OperatorService/Shutdown", "/", "/quell.v1.OperatorService/get", "/metrics"] {
        let status = call(&admin, path).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{path}: {status:?}");
    }
    controller.stop().await;
}

#[tokio::test]
async fn the_wrong_kind_of_certificate_is_told_so() {
    let controller = Controller::start().await;
    let identity = controller.join("planthost1").await;
    let agent = quell_link::client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let status = call(&agent, "/quell.v1.OperatorService/Get").await.unwrap_err();
    assert_eq!(
        status.message(),
        "Get takes an operator's certificate, and the caller's is that of the agent of planthost1"
    );
    let operator = controller.operator("ada", &["admin"], HOUR).connect().await.unwrap();
    let status = common::Session::open(operator).await.err().unwrap();
    assert_eq!(status.message(), "Session takes an agent's certificate, and the caller's is that of operator ada");
    controller.stop().await;
}

#[tokio::test]
async fn a_role_that_was_taken_away_is_missed_on_the_next_call() {
    let controller = Controller::start().await;
    let channel = controller.operator("oona", &["operator"], HOUR).connect().await.unwrap();
    assert!(!is_refusal(&call(&channel, "/quell.v1.OperatorService/Apply").await));
    controller.registry.beliefs.lock().unwrap().operators.insert("oona".into(), vec!["viewer".into()]);
    let status = call(&channel, "/quell.v1.OperatorService/Apply").await.unwrap_err();
    assert_eq!(status.message(), "Apply needs the role operator or admin; operator oona has viewer");
    controller.stop().await;
}

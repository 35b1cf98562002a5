//! The table of who may call what: it is whole, and every row of it holds on real connections.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::{Controller, anonymous, call};
use jiff::Timestamp;
use prost::Message as _;
use quell_link::access::{Caller, Right, TABLE};
use tonic::{Code, transport::Channel};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const AGENT: &str = "agent";

/// Every call of the contract, as its path.
fn calls_of_the_contract() -> BTreeSet<String> {
    let files = prost_types::FileDescriptorSet::decode(quell_wire::DESCRIPTORS).unwrap().file;
    let mut paths = BTreeSet::new();
    for file in files {
        for service in &file.service {
            for method in &service.method {
                paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    paths
}

#[test]
fn every_call_of_the_contract_has_one_row_and_no_row_is_left_over() {
    let contract = calls_of_the_contract();
    assert!(contract.len() > 15, "the descriptors are read");
    let rows: Vec<_> =
        TABLE.iter().map(|rule| rule.path.to_owned()).filter(|path| path.starts_with("/quell.")).collect();
    let unique: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(unique.len(), rows.len(), "a call has two rows");
    assert_eq!(unique, contract);
}

#[test]
fn only_joining_and_health_can_be_called_without_a_certificate() {
    let open: Vec<_> = TABLE.iter().filter(|rule| rule.caller == Caller::Anyone).map(|rule| rule.path).collect();
    assert_eq!(open, ["/quell.v1.EnrolmentService/Join", "/grpc.health.v1.Health/Check"]);
}

/// A kind of caller, its connection, and which rows it may call.
struct Kind {
    name: &'static str,
    channel: Channel,
    may: fn(Caller) -> bool,
}

async fn kinds(controller: &Controller) -> Vec<Kind> {
    let identity = controller.join("planthost1").await;
    let agent = quell_link::client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let operator =
        async |name: &'static str, roles: &[&str]| controller.operator(name, roles, HOUR).connect().await.unwrap();
    let late = controller.join("planthost2").await;
    let late = controller.reissue(&late, Timestamp::now() - 3 * DAY, DAY);
    vec![
        Kind {
            name: "without a certificate",
            channel: anonymous(controller).await,
            may: |caller| caller == Caller::Anyone,
        },
        Kind {
            name: "agent whose certificate has ended",
            channel: quell_link::client::connect_as_is(&controller.addresses(), &late).await.unwrap(),
            may: |caller| matches!(caller, Caller::Anyone | Caller::LateAgent),
        },
        Kind {
            name: AGENT,
            channel: agent,
            may: |caller| matches!(caller, Caller::Anyone | Caller::Agent | Caller::LateAgent),
        },
        Kind { name: "without a role", channel: operator("nobody", &[]).await, may: |caller| caller == Caller::Anyone },
        Kind {
            name: "viewer",
            channel: operator("vera", &["viewer"]).await,
            may: |caller| matches!(caller, Caller::Anyone | Caller::Operator(Right::Read)),
        },
        Kind {
            name: "compliance",
            channel: operator("carl", &["compliance"]).await,
            may: |caller| matches!(caller, Caller::Anyone | Caller::Operator(Right::Read | Right::Decide)),
        },
        Kind {
            name: "operator",
            channel: operator("oona", &["operator"]).await,
            may: |caller| matches!(caller, Caller::Anyone | Caller::Operator(Right::Read | Right::Decide | Right::Act)),
        },
        Kind {
            name: "admin",
            channel: operator("ada", &["admin"]).await,
            may: |caller| matches!(caller, Caller::Anyone | Caller::Operator(_)),
        },
    ]
}

fn is_refusal(result: &Result<(), tonic::Status>) -> bool {
    matches!(result, Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated))
}

#[tokio::test]
async fn every_row_holds_for_every_kind_of_caller() {
    let controller = Controller::start().await;
    let kinds = kinds(&controller).await;
    for rule in TABLE {
        for kind in &kinds {
            // An agent's stream is opened elsewhere: an empty call to it would wait.
            if rule.caller == Caller::Agent && kind.name == AGENT {
                continue;
            }
            let result = call(&kind.channel, rule.path).await;
            // Joining with an empty message is refused by the service itself, not by the table.
            if rule.path.ends_with("/Join") {
                assert_eq!(result.unwrap_err().code(), Code::InvalidArgument, "{}", kind.name);
                continue;
            }
            assert_eq!(!is_refusal(&result), (kind.may)(rule.caller), "{} on {}: {result:?}", kind.name, rule.path);
        }
    }
    controller.stop().await;
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

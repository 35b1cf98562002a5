//! Alerts of another system over real TLS and HTTP: what Alertmanager posts is durable when it is answered, and what
//! cannot be read or may not be posted is answered in words and status codes that it knows.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use quell_link::access::{ALERT_SOURCE, ALERTMANAGER};
use quell_wire::v1::{ApplyRequest, GetRequest, ManifestFile};
use serde_json::json;
use tonic::body::Body;
use tower::{Service as _, ServiceExt as _};

use crate::{
    access::{Shown, agent, connect, operator},
    harness::{Running, start},
};

/// Posts a body as whoever has this certificate; the status and the answer.
async fn post(controller: &Running, shown: Option<&Shown>, path: &str, body: &str) -> (StatusCode, String) {
    let mut channel = connect(controller, shown).await.unwrap();
    let request = Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
    let request = request.body(Body::new(body.to_owned())).unwrap();
    let answer = channel.ready().await.unwrap().call(request).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 1 << 16).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn message(status: &str, instance: &str) -> String {
    let labels = json!({ "alertname": "HighLag", "instance": instance });
    json!({ "version": "4", "alerts": [{ "status": status, "labels": labels }] }).to_string()
}

/// Waits for the record that somebody's call was refused: refusals are written apart from the call.
async fn until_refused(controller: &Running, who: &str, why: &str) {
    for _ in 0..500 {
        let records = controller.decider.records(1, usize::MAX).await.unwrap();
        let mut refused = records.iter().filter(|record| record.kind == "requestRefused");
        if refused.any(|record| record.text.contains(who) && record.text.contains(why)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no record says that {who} was refused: {why}");
}

const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { name: lag }
spec:
  description: It lags behind.
  hosts: all
  trigger: { alert: { source: prometheus, match: { alertname: HighLag }, target: labels.instance } }
";

#[tokio::test]
async fn what_alertmanager_posts_is_taken_in_and_what_others_post_is_refused() {
    let controller = start().await;
    let (host, _) = agent(&controller, "planthost1").await;
    let (source, _) = operator(&controller, "prometheus", ALERT_SOURCE).await;
    let (admin, _) = operator(&controller, "ada", "admin").await;
    let files = vec![ManifestFile { name: "lag.yaml".to_owned(), text: POLICY.to_owned() }];
    controller.operator().await.apply(ApplyRequest { files, ..ApplyRequest::default() }).await.unwrap();

    let firing = message("firing", "planthost1:9100");
    let (status, answer) = post(&controller, Some(&source), ALERTMANAGER, &firing).await;
    assert_eq!((status, answer.as_str()), (StatusCode::OK, r#"{"alerts":1,"concerning":1,"unplaced":0}"#));
    let incidents = async || {
        let request = GetRequest { kind: "incidents".to_owned(), ..GetRequest::default() };
        controller.operator().await.get(request).await.unwrap().into_inner().incidents
    };
    let open = incidents().await;
    assert_eq!((open.len(), open[0].target.as_str()), (1, "planthost1"), "{open:?}");

    let elsewhere = message("firing", "planthost9:9100");
    let (status, answer) = post(&controller, Some(&source), ALERTMANAGER, &elsewhere).await;
    assert_eq!((status, answer.as_str()), (StatusCode::OK, r#"{"alerts":1,"concerning":1,"unplaced":1}"#));
    for (shown, path, body, wanted, words) in [
        (Some(&source), ALERTMANAGER, "{}", StatusCode::BAD_REQUEST, "not a message of Alertmanager"),
        (None, ALERTMANAGER, firing.as_str(), StatusCode::UNAUTHORIZED, "the caller showed none"),
        (Some(&host), ALERTMANAGER, firing.as_str(), StatusCode::FORBIDDEN, "is that of the agent of planthost1"),
        (Some(&admin), ALERTMANAGER, firing.as_str(), StatusCode::FORBIDDEN, "needs the role alert-source"),
        (Some(&source), "/alerts/other", firing.as_str(), StatusCode::FORBIDDEN, "is not a call that anybody may make"),
    ] {
        let (status, answer) = post(&controller, shown, path, body).await;
        assert!(status == wanted && answer.contains(words), "{path}: {status} {answer}");
    }
    let huge = format!("{firing}{}", " ".repeat(2 << 20));
    assert_eq!(post(&controller, Some(&source), ALERTMANAGER, &huge).await.0, StatusCode::PAYLOAD_TOO_LARGE);

    let records = async |kind: &str| {
        let records = controller.decider.records(1, usize::MAX).await.unwrap();
        let of_kind = records.into_iter().filter(|record| record.kind == kind);
        of_kind.map(|record| record.text.clone()).collect::<Vec<_>>()
    };
    let told = records("alertsTold").await;
    assert!(told.len() == 2 && told[0].starts_with("prometheus tells of 1 alerts"), "{told:?}");
    until_refused(&controller, "ada", "needs the role alert-source").await;
    until_refused(&controller, "prometheus", "HTTP status 400").await;

    post(&controller, Some(&source), ALERTMANAGER, &message("resolved", "planthost1:9100")).await;
    assert!(incidents().await.iter().all(|incident| incident.state == "resolved"), "{:?}", incidents().await);
    controller.stop().await.unwrap();
}

//! Alerts of other systems, over HTTP on the port of agents and operators: `POST /alerts/alertmanager`.
//!
//! Who posts has shown an operator's certificate with the role `alert-source`
//! ([`quell_link::access::TABLE`]), and is the source under that name. The body is what Prometheus' Alertmanager sends to
//! a webhook, version 4. The answer comes when it is durable: 200 with what became of it, 400 for what cannot be read,
//! which is not worth sending again, 503 for what is.

use std::collections::BTreeMap;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use quell_engine::{
    Actor,
    input::{ForeignAlert, Reply, Request},
};
use quell_link::{
    access::ALERTMANAGER,
    identity::{Peer, Role},
};
use quell_model::digest::{Digest, canonical};
use serde::Deserialize;

use crate::decider::{Failed, Handle};

/// Bytes of the largest body that is read.
const LARGEST: usize = 1 << 20;
/// Bytes of the longest name and value of a label, as one alert may have it; others are left out.
const LONGEST: usize = 1_024;
/// Alerts of the largest message that is taken in.
const MOST: usize = 1_000;
/// The version of Alertmanager's message that is read.
const VERSION: &str = "4";

/// What Alertmanager posts to a webhook, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    version: String,
    #[serde(default)]
    truncated_alerts: u64,
    alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
struct Alert {
    status: Standing,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Standing {
    Firing,
    Resolved,
}

/// The routes, to be served behind the table of who may call what.
pub fn routes(decider: Handle) -> Router {
    Router::new().route(ALERTMANAGER, post(alertmanager)).layer(DefaultBodyLimit::max(LARGEST)).with_state(decider)
}

async fn alertmanager(State(decider): State<Handle>, Extension(peer): Extension<Peer>, body: Bytes) -> Response {
    let Some(Role::Operator { name }) = &peer.role else { return told(StatusCode::FORBIDDEN, "not an operator") };
    let alerts = match read(&body) {
        Ok(alerts) => alerts,
        Err(why) => {
            tracing::warn!(source = name, why, "alerts that cannot be read were refused");
            return told(StatusCode::BAD_REQUEST, &why);
        }
    };
    match decider.request(Actor::Person(name.clone()), Request::TellAlerts { alerts }).await {
        Ok(Reply::Told { of, concerning, unplaced }) => {
            if unplaced > 0 {
                tracing::warn!(source = name, unplaced, "alerts concern a policy and name no host that it means");
            }
            let counts = serde_json::json!({ "alerts": of, "concerning": concerning, "unplaced": unplaced });
            Json(counts).into_response()
        }
        Ok(reply) => told(StatusCode::INTERNAL_SERVER_ERROR, &format!("an answer to something else: {reply:?}")),
        Err(Failed::Refused(refusal)) => told(StatusCode::BAD_REQUEST, &refusal.to_string()),
        Err(Failed::Unavailable(error)) => told(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn told(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

/// Reads a message of Alertmanager.
///
/// # Errors
/// What is wrong with it, for whoever sent it.
pub fn read(body: &[u8]) -> Result<Vec<ForeignAlert>, String> {
    let message: Message =
        serde_json::from_slice(body).map_err(|error| format!("not a message of Alertmanager to a webhook: {error}"))?;
    if message.version != VERSION {
        return Err(format!("a message of version {:?}, and {VERSION:?} is read here", message.version));
    }
    if message.alerts.len() > MOST {
        let found = message.alerts.len();
        return Err(format!("{found} alerts, and at most {MOST} are taken in at once: group them (`group_by`)"));
    }
    if message.truncated_alerts > 0 {
        tracing::warn!(
            alerts = message.truncated_alerts,
            "alerts were left out by Alertmanager: remove `max_alerts` of this receiver"
        );
    }
    Ok(message.alerts.into_iter().map(foreign).collect())
}

fn foreign(alert: Alert) -> ForeignAlert {
    // What it is known by is what it is: Alertmanager tells alerts apart by their labels too.
    let fingerprint = Digest::of(canonical(&alert.labels).as_bytes()).short();
    let labels = alert.labels.into_iter().filter(|(name, value)| name.len().max(value.len()) <= LONGEST).collect();
    ForeignAlert { fingerprint, labels, fires: alert.status == Standing::Firing }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{
        "receiver": "quell", "status": "firing", "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0,
        "groupLabels": {}, "commonLabels": {"alertname": "HighLag"}, "commonAnnotations": {},
        "externalURL": "http://alertmanager.example:9093",
        "alerts": [
            {"status": "firing", "labels": {"alertname": "HighLag", "instance": "db1:9100"}, "annotations": {},
             "startsAt": "2026-11-28T05:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
             "fingerprint": "7c1d"},
            {"status": "resolved", "labels": {"alertname": "HighLag", "instance": "db2:9100"}, "annotations": {},
             "startsAt": "2026-11-28T05:00:00Z", "endsAt": "2026-11-28T05:05:00Z", "generatorURL": "",
             "fingerprint": "7c1e"}
        ]
    }"#;

    #[test]
    fn what_alertmanager_sends_is_read() {
        let alerts = read(MESSAGE.as_bytes()).unwrap();
        let said: Vec<_> = alerts.iter().map(|alert| (alert.labels["instance"].as_str(), alert.fires)).collect();
        assert_eq!(said, [("db1:9100", true), ("db2:9100", false)]);
        assert_ne!(alerts[0].fingerprint, alerts[1].fingerprint);
        let again = read(MESSAGE.replace("firing", "resolved").as_bytes()).unwrap();
        assert_eq!(again[0].fingerprint, alerts[0].fingerprint, "it is the same alert when it is over");
    }

    #[test]
    fn what_it_does_not_send_is_refused_in_words() {
        for (body, why) in [
            ("", "not a message of Alertmanager"),
            ("[]", "not a message of Alertmanager"),
            (r#"{"version":"3","alerts":[]}"#, "a message of version \"3\""),
            (r#"{"version":"4"}"#, "missing field `alerts`"),
            (r#"{"version":"4","alerts":[{"status":"maybe","labels":{}}]}"#, "unknown variant `maybe`"),
            (r#"{"version":"4","alerts":[{"status":"firing","labels":{"a":1}}]}"#, "invalid type"),
        ] {
            let refused = read(body.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{body}: {refused}");
        }
        let long = MESSAGE.replace("HighLag", &"x".repeat(2_000));
        assert!(read(long.as_bytes()).unwrap().iter().all(|alert| !alert.labels.contains_key("alertname")));
    }
}

//! The plain HTTP side.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Running, start};

async fn get(controller: &Running, path: &str) -> (u16, String) {
    call(controller, "GET", path).await
}

pub(crate) async fn call(controller: &Running, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(controller.http).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[tokio::test]
async fn metrics_health_and_readiness_answer_and_nothing_else_does() {
    let controller = start().await;
    let _operator = controller.operator().await;
    assert_eq!(get(&controller, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&controller, "/readyz").await.0, 200);
    let (status, metrics) = get(&controller, "/metrics").await;
    assert_eq!(status, 200);
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("quell_records_total") >= 1.0);
    assert!(value("quell_commit_duration_seconds_count") >= 1.0);
    assert_eq!(get(&controller, "/").await.0, 404);
    assert_eq!(get(&controller, "/debug/pprof").await.0, 404);
    controller.stop().await.unwrap();
}

#[tokio::test]
async fn a_decider_that_has_ended_is_neither_healthy_nor_served() {
    let controller = start().await;
    let _operator = controller.operator().await;
    controller.decider.stop().await;
    controller.decider.ended().await.unwrap();
    let error = controller.stopped_by_itself().await.unwrap_err().to_string();
    assert!(error.contains("Decider") && error.contains("start the controller again"), "{error}");
}

//! What `init` leaves for `serve`.

use jiff::Timestamp;
use quell_controller::{
    init,
    serve::{Controller, Parts},
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_state_knows_its_installation_and_its_first_operator_from_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("controller");
    let local = "127.0.0.1:0".parse().unwrap();
    let options = init::Options {
        data_dir: data_dir.clone(),
        listen: local,
        http: local,
        addresses: Vec::new(),
        operator: "mira".to_owned(),
        allowed_signers: None,
    };
    init::run(&options, Timestamp::now()).unwrap();
    let parts = Parts::open(&data_dir).unwrap();
    let installation = parts.authority.installation().to_owned();
    let controller = Controller::build(parts).unwrap();
    let decider = controller.decider();
    assert_eq!(decider.state().meta.installation, installation);
    assert!(!installation.is_empty());
    let stop = CancellationToken::new();
    let running = tokio::spawn(controller.run(stop.clone()));
    let admitted = decider.clone();
    crate::harness::until("mira is admitted", || admitted.state().operators.contains_key("mira")).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(decider.state().operators["mira"].roles, ["admin"]);
}

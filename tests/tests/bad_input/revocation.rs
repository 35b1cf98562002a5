//! A host that is revoked is cut off at once, and does not come back.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use quell_link::{
    client::{AgentIdentity, connect_as_is, renew},
    rpc::agent_service_client::AgentServiceClient,
};
use quell_tests::fleet::{Fleet, http_get, process::Process, wait_for};
use quell_wire::v1::AgentMessage;

use crate::call::{INVALID, agent, host, logs_are_calm, programs, quell, text};

/// How fast a revoked agent is cut off.
const AT_ONCE: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(30);

fn sessions(fleet: &Fleet) -> Option<u64> {
    let metrics = http_get(fleet.http_port(), "/metrics").unwrap();
    metrics.lines().find_map(|line| line.strip_prefix("quell_sessions ")).and_then(|number| number.parse().ok())
}

fn state(fleet: &Fleet, name: &str) -> String {
    let hosts = fleet.items("hosts", &[]).unwrap();
    hosts.iter().find(|host| host["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_revoked_host_is_cut_off_at_once_and_does_not_come_back() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(scratch.path()).unwrap();
    fleet.enrol(&host("planthost1", "")).unwrap();
    fleet.enrol(&host("planthost2", "")).unwrap();
    assert_eq!(sessions(&fleet), Some(2));
    quell(fleet.profile(), &["host", "revoke", "planthost1"]).ends(INVALID, &["--reason"]);
    assert_eq!(sessions(&fleet), Some(2));

    let asked = Instant::now();
    fleet.quell(&["host", "revoke", "planthost1", "--reason", "stolen"]).unwrap();
    let cut = || (sessions(&fleet) == Some(1)).then(|| asked.elapsed());
    let took = wait_for(AT_ONCE * 5, || format!("{:?} sessions", sessions(&fleet)), cut).unwrap();
    assert!(took < AT_ONCE, "it took {took:?}");
    assert_eq!(state(&fleet, "planthost1"), "revoked");

    // The agent itself knows why, and a restart of it changes nothing.
    let log = scratch.path().join("planthost1.log");
    let knows = || fs::read_to_string(&log).unwrap().contains("revoked").then_some(());
    wait_for(SOON, || fs::read_to_string(&log).unwrap(), knows).unwrap();
    fleet.kill_agent("planthost1");
    let data = fleet.agent_data("planthost1");
    let log = scratch.path().join("again.log");
    let mut again = Process::start(&programs().agent, &["run", "--data-dir", text(&data)], &log).unwrap();
    let knows = || fs::read_to_string(&log).unwrap().contains("revoked").then_some(());
    wait_for(SOON, || fs::read_to_string(&log).unwrap(), knows).unwrap();
    again.stop(SOON).unwrap();

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let identity = Arc::new(AgentIdentity::load(&data.join("identity")).unwrap());
        let messages = tokio_stream::pending::<AgentMessage>();
        match connect_as_is(&identity.addresses, &identity).await {
            Ok(channel) => {
                let refusal = AgentServiceClient::new(channel).session(messages).await.map(drop).unwrap_err();
                assert!(refusal.message().contains("revoked"), "{refusal}");
            }
            Err(error) => assert!(error.to_string().contains("revoked"), "{error}"),
        }
        let error = renew(&identity.addresses, &identity).await.map(drop).unwrap_err();
        assert!(error.to_string().contains("revoked"), "{error}");
    });

    // Its name may be given to another machine, by who holds a new token; the old key gains nothing by that.
    let join = fleet.quell(&["token", "create"]).unwrap();
    let fresh = scratch.path().join("fresh");
    agent(["join", "--data-dir", text(&fresh), "--name", "planthost1", join.trim()]).done();
    let error = runtime.block_on(async {
        let identity = Arc::new(AgentIdentity::load(&data.join("identity")).unwrap());
        renew(&identity.addresses, &identity).await.map(drop).unwrap_err()
    });
    assert!(error.to_string().contains("another key"), "{error}");
    assert_eq!(state(&fleet, "planthost2"), "online");
    assert_eq!(sessions(&fleet), Some(1));
    logs_are_calm(scratch.path());
}

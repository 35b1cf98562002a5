//! Certificates of the wrong kind, of another installation, cut off, or open to others.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use quell_link::{
    client::{AgentIdentity, connect_agent},
    profile::Profile,
    rpc::{
        agent_service_client::AgentServiceClient, enrolment_service_client::EnrolmentServiceClient,
        operator_service_client::OperatorServiceClient,
    },
};
use quell_tests::fleet::Fleet;
use quell_wire::v1::{AgentMessage, CreateTokenRequest, GetRequest, RenewRequest};
use tonic::Code;

use crate::call::{
    FAILED, INVALID, UNREACHABLE, agent, command, controller, host, logs_are_calm, programs, quell, run, standing, text,
};

/// The agent's key and certificate, dressed up as an operator's profile.
fn as_profile(agent_data: &Path, operator: &Profile) -> Profile {
    let read = |name: &str| fs::read_to_string(agent_data.join("identity").join(name)).unwrap();
    Profile { roots: read("roots.pem"), chain: read("chain.pem"), key: read("key.pem"), ..operator.clone() }
}

fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The operator's key and certificate, put into an agent's directory.
fn as_agent(directory: &Path, agent_data: &Path, operator: &Profile) {
    let identity = directory.join("identity");
    fs::create_dir_all(&identity).unwrap();
    fs::copy(agent_data.join("identity/identity.toml"), identity.join("identity.toml")).unwrap();
    for (name, content) in [("roots.pem", &operator.roots), ("chain.pem", &operator.chain), ("key.pem", &operator.key)]
    {
        write(&identity.join(name), content);
    }
}

#[test]
fn a_certificate_is_good_for_what_it_was_issued_for_and_for_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(scratch.path()).unwrap();
    fleet.enrol(&host("planthost1", "")).unwrap();
    let before = standing(&fleet);
    let operator = Profile::load(fleet.profile()).unwrap();
    let agent_data = fleet.agent_data("planthost1");

    let disguised = scratch.path().join("disguised.toml");
    as_profile(&agent_data, &operator).save(&disguised).unwrap();
    quell(&disguised, &["get", "hosts"]).says_no(
        INVALID,
        &["the certificate of the agent of planthost1", "not of an operator", "quell operator create"],
    );
    let directory = scratch.path().join("disguised");
    as_agent(&directory, &agent_data, &operator);
    agent(["run", "--data-dir", text(&directory)])
        .says_no(FAILED, &["chain.pem", "quell:operator:admin, not for quell:agent:", "join it again"]);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(the_controller_refuses_what_clients_would_not_try(&agent_data, &operator));

    let stranger = scratch.path().join("stranger");
    let made = controller(["init", "--data-dir", text(&stranger), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let stranger = Profile::load(Path::new(made.done().lines().last().unwrap())).unwrap();
    let elsewhere = scratch.path().join("elsewhere.toml");
    Profile { addresses: operator.addresses.clone(), ..stranger.clone() }.save(&elsewhere).unwrap();
    quell(&elsewhere, &["get", "hosts"])
        .says_no(UNREACHABLE, &[&operator.addresses[0], "not of this installation's CA", "profile"]);
    // One who knows the CA, which is no secret, and has a certificate of another.
    Profile { chain: stranger.chain, key: stranger.key, ..operator.clone() }.save(&elsewhere).unwrap();
    quell(&elsewhere, &["get", "hosts"]).says_no(UNREACHABLE, &["another installation"]);

    assert_eq!(standing(&fleet), before);
    logs_are_calm(scratch.path());
}

/// Behind our own clients' checks stands the controller's table.
async fn the_controller_refuses_what_clients_would_not_try(agent_data: &Path, operator: &Profile) {
    let identity = Arc::new(AgentIdentity::load(&agent_data.join("identity")).unwrap());
    let channel = connect_agent(&identity.addresses, &identity).await.unwrap();
    let mut as_operator = OperatorServiceClient::new(channel);
    let request = GetRequest { kind: "hosts".to_owned(), ..GetRequest::default() };
    assert_eq!(as_operator.get(request).await.unwrap_err().code(), Code::PermissionDenied);
    let request = CreateTokenRequest { ttl_ms: 60_000, uses: 1, ..CreateTokenRequest::default() };
    assert_eq!(as_operator.create_token(request).await.unwrap_err().code(), Code::PermissionDenied);

    let channel = operator.connect().await.unwrap();
    let messages = tokio_stream::pending::<AgentMessage>();
    let session = AgentServiceClient::new(channel.clone()).session(messages).await.map(drop);
    assert_eq!(session.unwrap_err().code(), Code::PermissionDenied);
    let renewal = EnrolmentServiceClient::new(channel).renew(RenewRequest::default()).await.map(drop);
    assert_eq!(renewal.unwrap_err().code(), Code::PermissionDenied);
}

#[test]
fn a_profile_that_cannot_be_used_is_named_with_what_to_do() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("controller");
    let made = controller(["init", "--data-dir", text(&data), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let good = fs::read_to_string(made.done().lines().last().unwrap()).unwrap();
    let path = scratch.path().join("profile.toml");
    let name = text(&path);

    quell(&path, &["get", "hosts"]).says_no(INVALID, &[name, "No such file", "--profile or QUELL_PROFILE"]);
    for length in [0, 40, good.len() / 2, good.len() - 80] {
        write(&path, &good[..length]);
        quell(&path, &["get", "hosts"]).says_no(INVALID, &["profile", "damaged", "ask an administrator for a new"]);
    }
    write(&path, &good.replace("\nkey = ", "\ncolour = \"red\"\nkey = "));
    quell(&path, &["get", "hosts"]).says_no(INVALID, &[name, "colour", "ask an administrator"]);
    write(&path, &good.replace("PRIVATE KEY", "SECRET KEY"));
    quell(&path, &["get", "hosts"]).says_no(INVALID, &["its key is damaged", "ask an administrator"]);
    write(&path, &good);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    quell(&path, &["get", "hosts"]).says_no(INVALID, &[name, "can be read by others", "chmod 600"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    // It is whole again; the controller that it is for does not run.
    let begun = std::time::Instant::now();
    quell(&path, &["get", "hosts"])
        .says_no(UNREACHABLE, &["cannot reach the controller", "127.0.0.1", "check that it runs"]);
    assert!(begun.elapsed() < Duration::from_secs(15), "a refused connection is known at once");

    let place = scratch.path().join("home/.config/quell");
    fs::create_dir_all(&place).unwrap();
    let at_home = || {
        let mut command = command(&programs().cli, ["get", "hosts"]);
        command.env("HOME", scratch.path().join("home"));
        run(command)
    };
    at_home().says_no(INVALID, &["no profile", "QUELL_PROFILE", text(&place)]);
    write(&place.join("one.toml"), &good);
    at_home().says_no(UNREACHABLE, &["cannot reach the controller"]);
    write(&place.join("two.toml"), &good);
    at_home().says_no(INVALID, &["2 profiles", text(&place), "--profile"]);
}

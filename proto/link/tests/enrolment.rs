//! Joining and renewing over real TLS: what works, and every way in which it is refused.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{os::unix::fs::MetadataExt as _, sync::atomic::Ordering, time::Duration};

use common::{Controller, Session, call, key_of, trust_root};
use jiff::Timestamp;
use quell_link::client::{self, AgentIdentity, Error};
use quell_model::trust::TrustRoot;
use quell_wire::v1::TrustRootStep;
use ssh_key::{HashAlg, LineEnding, SshSig};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_host_that_joined_has_private_files_and_can_speak() {
    let controller = Controller::start().await;
    let identity = controller.join("planthost1").await;
    for file in ["key.pem", "chain.pem", "roots.pem", "identity.toml"] {
        let mode = std::fs::metadata(controller.directory("planthost1").join(file)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let loaded = AgentIdentity::load(&controller.directory("planthost1")).unwrap();
    assert_eq!((&loaded.name, &loaded.host_id, &loaded.labels), (&identity.name, &identity.host_id, &identity.labels));
    assert_eq!(loaded.labels["role"], "orders");
    assert_eq!(loaded.addresses, controller.addresses());
    let channel = client::connect_agent(&controller.addresses(), &loaded.into()).await.unwrap();
    Session::open(channel).await.unwrap().echo(1).await.unwrap();
    controller.stop().await;
}

#[tokio::test]
async fn what_the_controller_refuses_is_said_and_leaves_no_identity() {
    let controller = Controller::start().await;
    controller.join("planthost1").await;
    let spent = controller.token(0);
    let mut ended = controller.token(1);
    ended.secret = "ended".into();
    let good = controller.token(1);
    for (join, name, wanted) in [
        (&spent, "planthost2", "the token is used up"),
        (&ended, "planthost2", "the token has ended"),
        (&good, "planthost1", "there is a host planthost1 already"),
    ] {
        let directory = controller.directory("refused");
        let error = client::join(join, name.parse().unwrap(), &directory).await.unwrap_err();
        assert_eq!(error.to_string(), wanted);
        assert!(!error.is_transient());
        assert!(matches!(AgentIdentity::load(&directory), Err(Error::NotJoined(_))));
    }
    controller.stop().await;
}

#[tokio::test]
async fn a_host_believes_whom_its_join_string_names_and_nobody_whom_a_controller_plants() {
    let controller = Controller::start().await;
    let first = trust_root("ada");
    let second = TrustRoot { version: 2, ..trust_root("bob") };
    let step = |root: &TrustRoot, by: Option<&str>| {
        let bytes = root.canonical().into_bytes();
        let sign = |person| SshSig::sign(&key_of(person), "quell-trust", HashAlg::Sha512, &bytes).unwrap();
        let signatures = by.map(|person| sign(person).to_pem(LineEnding::LF).unwrap()).into_iter().collect();
        TrustRootStep { root: bytes, signatures }
    };
    let say = |steps: Vec<TrustRootStep>| *controller.registry.trust.lock().unwrap() = steps;
    for planted in [
        Vec::new(),
        vec![step(&trust_root("eve"), None)],
        vec![step(&first, None), step(&TrustRoot { version: 2, ..trust_root("eve") }, Some("eve"))],
        vec![step(&first, None), step(&second, None)],
    ] {
        say(planted);
        let directory = controller.directory("planted");
        let error = client::join(&controller.token(1), "planted".parse().unwrap(), &directory).await.unwrap_err();
        assert!(error.to_string().contains("trust root"), "{error}");
        assert!(matches!(AgentIdentity::load(&directory), Err(Error::NotJoined(_))));
        controller.registry.beliefs.lock().unwrap().hosts.clear();
    }
    say(vec![step(&first, None), step(&second, Some("ada"))]);
    let directory = controller.directory("honest");
    let joined = client::join(&controller.token(1), "honest".parse().unwrap(), &directory).await.unwrap();
    assert_eq!(joined.trust, second);
    controller.stop().await;
}

#[tokio::test]
async fn a_second_join_into_the_same_directory_is_refused_before_anything_is_sent() {
    let controller = Controller::start().await;
    controller.join("planthost1").await;
    let before = controller.registry.joins.load(Ordering::SeqCst);
    let error = client::join(&controller.token(1), "other".parse().unwrap(), &controller.directory("planthost1"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("holds the identity of planthost1 already"), "{error}");
    assert_eq!(controller.registry.joins.load(Ordering::SeqCst), before);
    controller.stop().await;
}

#[tokio::test]
async fn a_controller_with_another_ca_never_sees_the_secret() {
    let (ours, other) = (Controller::start().await, Controller::start().await);
    let mut join = ours.token(1);
    join.addresses = other.addresses();
    let error = client::join(&join, "planthost1".parse().unwrap(), &ours.directory("x")).await.unwrap_err();
    assert!(error.to_string().contains("it belongs to another installation"), "{error}");
    assert_eq!(other.registry.joins.load(Ordering::SeqCst), 0);
    ours.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn labels_that_the_join_string_does_not_give_are_not_taken() {
    let controller = Controller::start().await;
    let mut join = controller.token(1);
    join.labels.insert("role".into(), "web".into());
    let directory = controller.directory("x");
    let error = client::join(&join, "planthost1".parse().unwrap(), &directory).await.unwrap_err();
    assert!(error.to_string().contains("\"role=web\", the controller \"role=orders\""), "{error}");
    assert!(AgentIdentity::load(&directory).is_err());
    controller.stop().await;
}

#[tokio::test]
async fn a_controller_that_is_away_is_named_with_what_to_do() {
    let controller = Controller::start().await;
    let join = controller.token(1);
    let (address, directory) = (controller.address, controller.directory("x"));
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join(directory.file_name().unwrap());
    controller.stop().await;
    let error = client::join(&join, "planthost1".parse().unwrap(), &directory).await.unwrap_err();
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("check that it runs"), "{text}");
}

#[tokio::test]
async fn an_ended_certificate_is_good_for_renewing_and_nothing_else() {
    let controller = Controller::start().await;
    let identity = controller.join("planthost1").await;
    let ended = controller.reissue(&identity, Timestamp::now() - 3 * DAY, DAY);
    assert!(ended.is_expired(Timestamp::now()));

    // Past `connect_agent`, which would renew it first.
    let late = quell_link::client::connect_as_is(&controller.addresses(), &ended).await.unwrap();
    let status = Session::open(late).await.err().unwrap();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert!(status.message().contains("ended on"), "{status:?}");

    let channel = client::connect_agent(&controller.addresses(), &ended).await.unwrap();
    assert!(!ended.is_expired(Timestamp::now()), "renewed on the way");
    Session::open(channel).await.unwrap().echo(1).await.unwrap();
    let on_disk = AgentIdentity::load(&controller.directory("planthost1")).unwrap();
    assert_eq!(on_disk.expires(), ended.expires());
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_that_ended_over_thirty_days_ago_is_refused_with_the_way_out() {
    let controller = Controller::start().await;
    let identity = controller.join("planthost1").await;
    let ended = controller.reissue(&identity, Timestamp::now() - 32 * DAY, DAY);
    let error = client::renew(&controller.addresses(), &ended).await.unwrap_err();
    assert!(error.to_string().contains("join again"), "{error}");
    controller.stop().await;
}

#[tokio::test]
async fn an_operators_certificate_has_no_grace() {
    let controller = Controller::start().await;
    let profile = controller.operator("ada", &["admin"], Duration::ZERO);
    let error = loop {
        match profile.connect().await {
            Err(error) => break error,
            // The certificate ends at the next full second.
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert!(error.to_string().contains("ask an administrator for a new one"), "{error}");
    controller.stop().await;
}

#[tokio::test]
async fn a_revoked_host_cannot_renew() {
    let controller = Controller::start().await;
    let identity = controller.join("planthost1").await;
    controller.revoke("planthost1");
    let error = client::renew(&controller.addresses(), &identity).await.unwrap_err();
    assert_eq!(error.to_string(), "host planthost1 was revoked");
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_at_two_thirds_while_the_stream_lives() {
    let controller = Controller::start().await;
    *controller.registry.agent_ttl.lock().unwrap() = Some(Duration::from_secs(4));
    let identity = controller.join("planthost1").await;
    let first = identity.expires();
    let channel = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let mut session = Session::open(channel).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let renewing = tokio::spawn(client::keep_renewed(controller.addresses(), identity.clone(), stop.clone()));
    let mut sequence = 0;
    while identity.expires() == first {
        sequence += 1;
        session.echo(sequence).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(Timestamp::now() < first, "renewed before the end");
    }
    session.echo(sequence + 1).await.unwrap();
    stop.cancel();
    renewing.await.unwrap();
    controller.stop().await;
}

#[tokio::test]
async fn a_join_that_broke_off_goes_on_with_the_same_key() {
    let controller = Controller::start().await;
    let directory = controller.directory("planthost1");
    let error = client::join(&controller.token(0), "planthost1".parse().unwrap(), &directory).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    let key = std::fs::read(directory.join("key.pem")).unwrap();
    controller.join("planthost1").await;
    assert_eq!(std::fs::read(directory.join("key.pem")).unwrap(), key);
    controller.stop().await;
}

#[tokio::test]
async fn a_damaged_file_is_named() {
    let controller = Controller::start().await;
    controller.join("planthost1").await;
    let directory = controller.directory("planthost1");
    for file in ["chain.pem", "roots.pem", "key.pem", "identity.toml"] {
        let path = directory.join(file);
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content[..content.len() / 2]).unwrap();
        let error = AgentIdentity::load(&directory).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        std::fs::write(&path, content).unwrap();
    }
    AgentIdentity::load(&directory).unwrap();
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_and_a_ca_that_do_not_belong_together_are_told() {
    let (controller, other) = (Controller::start().await, Controller::start().await);
    controller.join("planthost1").await;
    let directory = controller.directory("planthost1");
    common::write_chain(&directory.join("roots.pem"), &other.authority.roots()[0]);
    let error = AgentIdentity::load(&directory).unwrap_err().to_string();
    assert!(error.contains("chain.pem") && error.contains("is not of the CA that comes with it"), "{error}");
    controller.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_profile_is_saved_private_and_works_when_read_back() {
    let controller = Controller::start().await;
    let path = controller.directory("ada.toml");
    let profile = controller.operator("ada", &["admin"], HOUR);
    profile.save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let read = quell_link::profile::Profile::load(&path).unwrap();
    assert_eq!(read, profile);
    let status = call(&read.connect().await.unwrap(), "/quell.v1.OperatorService/Get").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented, "it came through to the routes");
    controller.stop().await;
}

#[tokio::test]
async fn a_profile_of_another_installation_is_told_so() {
    let (ours, other) = (Controller::start().await, Controller::start().await);
    let mut profile = ours.operator("ada", &["admin"], HOUR);
    profile.addresses = other.addresses();
    let error = profile.connect().await.unwrap_err();
    assert!(error.to_string().contains("not of this installation's CA"), "{error}");
    ours.stop().await;
    other.stop().await;
}

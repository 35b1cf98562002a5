//! The real engine, a store in memory, and real TLS.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use quell_engine::Effect;
use quell_link::{
    client::{self, AgentIdentity, Error},
    join::JoinString,
    rpc::enrolment_service_server::EnrolmentServiceServer,
    server::{Options, Tls, serve},
};
use quell_model::{selector::Labels, trust::TrustRoot};
use tokio_util::sync::CancellationToken;
use tonic::{Code, service::Routes};

use super::*;
use crate::{
    decider::{self, Decider},
    init,
    rpc::Gate,
    store::MemoryStore,
};

fn root() -> TrustRoot {
    TrustRoot {
        installation: "i-1".to_owned(),
        version: 1,
        allowed_signers: "ada ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFUytXdwBGOOFzJlhf0ccHOi61KClquXKt0dRdEAtvfJ\n"
            .to_owned(),
        required: BTreeMap::new(),
    }
}

struct Controller {
    decider: Decider,
    handle: Handle,
    authority: Arc<Authority>,
    address: String,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    scratch: tempfile::TempDir,
}

impl Controller {
    async fn start() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::create(&scratch.path().join("ca"), "i-1", Timestamp::now()).unwrap());
        let effects = Box::new(|_: Effect| {});
        let mut store = MemoryStore::new();
        init::found(&mut store, &root(), Timestamp::now()).unwrap();
        let decider = Decider::start(decider::Options::new(Box::new(store), effects, "a test")).unwrap();
        let handle = decider.handle();
        let tls = Tls::new(Arc::clone(&authority), vec!["127.0.0.1".to_owned()], Timestamp::now()).unwrap();
        let service = Enrolments::new(handle.clone(), Arc::clone(&authority));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(
            listener,
            tls,
            Routes::new(EnrolmentServiceServer::new(service)),
            Arc::new(Gate::new(handle.clone(), crate::rpc::refusals::service().0)),
            Options { drain: Duration::from_millis(100), ..Options::default() },
            stop.clone(),
        ));
        Self { decider, handle, authority, address, stop, served, scratch }
    }

    async fn token(&self, uses: u32, ttl: Duration, name: Option<&str>) -> JoinString {
        let secret = join::new_secret().unwrap();
        let labels = Labels::from([("role".to_owned(), "orders".to_owned())]);
        let wanted = Wanted::CreateToken {
            hash: join::secret_hash(&secret),
            expires: self.handle.now() + ttl,
            uses,
            labels: labels.clone(),
            name: name.map(|name| name.parse().unwrap()),
        };
        let reply = self.handle.request(Actor::Person("ada".to_owned()), wanted).await.unwrap();
        assert!(matches!(reply, Reply::Token(_)), "{reply:?}");
        JoinString {
            addresses: vec![self.address.clone()],
            ca_fingerprint: self.authority.fingerprint(),
            trust: root().digest(),
            secret,
            labels,
            allow: BTreeMap::new(),
        }
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    async fn join(&self, token: &JoinString, name: &str, directory: &str) -> Result<Arc<AgentIdentity>, Error> {
        let joined = client::join(token, name.parse().unwrap(), &self.directory(directory)).await?;
        Ok(Arc::new(joined.identity))
    }

    async fn stop(self) {
        self.stop.cancel();
        self.served.await.unwrap();
        self.handle.stop().await;
        tokio::task::spawn_blocking(|| self.decider.join()).await.unwrap().unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_host_joins_and_renews_and_the_state_knows_its_key() {
    let controller = Controller::start().await;
    let token = controller.token(1, HOUR, None).await;
    let identity = controller.join(&token, "planthost1", "a").await.unwrap();
    assert_eq!(identity.labels["role"], "orders");
    let row = controller.handle.state().hosts.values().next().unwrap().clone();
    assert_eq!((row.name.as_str(), &row.host_id), ("planthost1", &identity.host_id));
    assert_eq!(row.certificate_expires, identity.expires());

    client::renew(&identity.addresses, &identity).await.unwrap();
    let renewed = controller.handle.state().hosts.values().next().unwrap().clone();
    assert_eq!((renewed.key, renewed.certificate_expires), (row.key, identity.expires()));
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_machines_that_race_for_one_use_exactly_one_gets_a_certificate() {
    let controller = Arc::new(Controller::start().await);
    let token = controller.token(1, HOUR, None).await;
    let races: Vec<_> = (0..8)
        .map(|number| {
            let (controller, token) = (Arc::clone(&controller), token.clone());
            let name = format!("planthost{number}");
            tokio::spawn(async move { controller.join(&token, &name, &name).await })
        })
        .collect();
    let mut won = Vec::new();
    for race in races {
        won.extend(race.await.unwrap().ok());
    }
    assert_eq!(won.len(), 1);
    let state = controller.handle.state();
    assert_eq!(state.hosts.keys().map(HostName::as_str).collect::<Vec<_>>(), [won[0].name.as_str()]);
    Arc::into_inner(controller).unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_string_with_forged_labels_spends_nothing_and_enrols_nobody() {
    let controller = Controller::start().await;
    let token = controller.token(1, HOUR, None).await;
    let mut forged = token.clone();
    forged.labels.insert("role".to_owned(), "database".to_owned());
    let before = controller.handle.head().sequence;
    let refused = refusal(controller.join(&forged, "planthost1", "a").await);
    assert!(refused.code() == Code::PermissionDenied && refused.message().contains("labels"), "{refused:?}");
    let state = controller.handle.state();
    assert!(state.hosts.is_empty(), "{:?}", state.hosts);
    assert_eq!(state.tokens.values().next().unwrap().uses_left, 1);
    assert_eq!(controller.handle.head().sequence, before);

    let identity = controller.join(&token, "planthost1", "a").await.unwrap();
    assert_eq!(identity.labels["role"], "orders");
    controller.stop().await;
}

/// The status behind a refused join.
fn refusal(result: Result<Arc<AgentIdentity>, Error>) -> Status {
    match result {
        Err(Error::Refused(status)) => *status,
        other => panic!("not a refusal: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_used_up_or_unknown_or_for_another_name_is_refused() {
    let controller = Controller::start().await;
    let token = controller.token(1, HOUR, None).await;
    controller.join(&token, "planthost1", "a").await.unwrap();
    let again = refusal(controller.join(&token, "planthost2", "b").await);
    let mut forged = token.clone();
    forged.secret = join::new_secret().unwrap();
    let unknown = refusal(controller.join(&forged, "planthost2", "b").await);
    let bound = controller.token(1, HOUR, Some("opshost")).await;
    let other = refusal(controller.join(&bound, "planthost2", "b").await);
    for (status, words) in
        [(again, "used up"), (unknown, "not known here"), (other, "for another name than planthost2")]
    {
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        assert!(status.message().contains(words), "{status:?}");
    }
    assert_eq!(controller.handle.state().hosts.len(), 1);
    controller.join(&bound, "opshost", "b").await.expect("a refused attempt spends nothing");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_is_refused() {
    let controller = Controller::start().await;
    let token = controller.token(1, Duration::from_millis(50), None).await;
    let end = controller.handle.now() + Duration::from_millis(50);
    while controller.handle.now() <= end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = refusal(controller.join(&token, "planthost1", "a").await);
    assert!(status.message().contains("expired at"), "{status:?}");
    assert!(controller.handle.state().hosts.is_empty());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_answer_was_lost_asks_again_and_is_the_host_that_it_was() {
    let controller = Controller::start().await;
    let token = controller.token(1, HOUR, None).await;
    let first = controller.join(&token, "planthost1", "a").await.unwrap();
    // Its key is there, and what came back is not.
    std::fs::remove_file(controller.directory("a").join("identity.toml")).unwrap();
    let again = controller.join(&token, "planthost1", "a").await.unwrap();
    assert_eq!(again.host_id, first.host_id);
    // Another machine that has seen the token and the name gets nothing by it.
    assert_eq!(refusal(controller.join(&token, "planthost1", "b").await).code(), Code::PermissionDenied);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_exists_is_not_taken_over() {
    let controller = Controller::start().await;
    let token = controller.token(5, HOUR, None).await;
    let first = controller.join(&token, "planthost1", "a").await.unwrap();
    let status = refusal(controller.join(&token, "planthost1", "b").await);
    assert!(status.message().contains("a host planthost1 is enrolled"), "{status:?}");
    client::renew(&first.addresses, &first).await.expect("the first one is still the host");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_gets_no_certificate_any_more() {
    let controller = Controller::start().await;
    let token = controller.token(1, HOUR, None).await;
    let identity = controller.join(&token, "planthost1", "a").await.unwrap();
    let wanted = Wanted::RevokeHost { name: identity.name.clone(), reason: "stolen".to_owned() };
    controller.handle.request(Actor::Person("ada".to_owned()), wanted).await.unwrap();
    let error = client::renew(&identity.addresses, &identity).await.unwrap_err();
    assert!(error.to_string().contains("revoked"), "{error}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_request_is_refused_without_a_trace() {
    let controller = Controller::start().await;
    let service = Enrolments::new(controller.handle.clone(), Arc::clone(&controller.authority));
    let (_, csr) = quell_link::authority::new_key().unwrap();
    let good = JoinRequest {
        token: "secret".to_owned(),
        name: "planthost1".to_owned(),
        csr_der: csr,
        agent_version: "0.1.0".to_owned(),
        grant_digest: join::grant_digest(&Labels::new()).0.to_vec(),
    };
    // Four records come first: the right to write and the installation, by `init`; the right to write and the start.
    let mut head = controller.handle.watch();
    head.wait_for(|head| head.sequence >= 4).await.unwrap();
    let before = controller.handle.head();
    for bad in [
        JoinRequest { token: String::new(), ..good.clone() },
        JoinRequest { token: "x".repeat(1000), ..good.clone() },
        JoinRequest { name: "../planthost1".to_owned(), ..good.clone() },
        JoinRequest { csr_der: b"garbage".to_vec(), ..good.clone() },
        JoinRequest { agent_version: "0.1\n\u{1b}[2J".to_owned(), ..good.clone() },
        JoinRequest { grant_digest: Vec::new(), ..good.clone() },
    ] {
        let status = service.join(Request::new(bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    assert_eq!(controller.handle.head().sequence, before.sequence);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_operator_is_admitted_once_and_can_call() {
    let controller = Controller::start().await;
    let data_dir = controller.directory("data");
    let options = crate::init::Options {
        data_dir: data_dir.clone(),
        listen: "127.0.0.1:7443".parse().unwrap(),
        http: "127.0.0.1:7480".parse().unwrap(),
        addresses: Vec::new(),
        operator: "ada".to_owned(),
        allowed_signers: None,
    };
    crate::init::run(&options, Timestamp::now()).unwrap();
    crate::init::admit_pending(&data_dir, &controller.handle).await.unwrap();
    let row = controller.handle.state().operators["ada"].clone();
    assert_eq!(row.roles, ["admin"]);
    let head = controller.handle.head().sequence;
    crate::init::admit_pending(&data_dir, &controller.handle).await.unwrap();
    assert_eq!(controller.handle.head().sequence, head, "a second time changes nothing");
    controller.stop().await;
}

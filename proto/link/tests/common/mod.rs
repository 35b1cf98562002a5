//! A controller that is nothing but its link: it enrols whom its tokens name, and echoes what agents say.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use quell_link::{
    AGENT_TTL, MESSAGE_BYTES, access,
    authority::{self, Authority},
    client::{self, AgentIdentity},
    identity::{Peer, Role},
    join::{JoinString, new_secret},
    profile::Profile,
    rpc::{
        agent_service_client::AgentServiceClient,
        agent_service_server::{AgentService, AgentServiceServer},
        enrolment_service_server::{EnrolmentService, EnrolmentServiceServer},
    },
    server::{Gatekeeper, Options, Tls, serve},
};
use quell_model::{digest::Digest, selector::Labels, trust::TrustRoot};
use quell_wire::v1::{
    Acknowledge, AgentMessage, ControllerMessage, JoinRequest, JoinResponse, RenewRequest, RenewResponse,
    TrustRootStep, controller_message,
};
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes, transport::Channel};

/// A person's key, made from the name.
pub(crate) fn key_of(person: &str) -> PrivateKey {
    let seed = Digest::of(person.as_bytes()).0;
    PrivateKey::new(KeypairData::from(Ed25519Keypair::from_seed(&seed)), person).unwrap()
}

/// A first trust root, in which one person may sign everything.
pub(crate) fn trust_root(person: &str) -> TrustRoot {
    let public = key_of(person).public_key().to_openssh().unwrap();
    TrustRoot {
        installation: "test".to_owned(),
        version: 1,
        allowed_signers: format!("{person} {public}\n"),
        required: BTreeMap::new(),
    }
}

/// What the controller believes.
#[derive(Default)]
pub(crate) struct Beliefs {
    /// Enrolled hosts: name, identifier and key.
    pub(crate) hosts: BTreeMap<String, (String, Digest)>,
    /// Operators and their roles.
    pub(crate) operators: BTreeMap<String, Vec<String>>,
    /// Names of hosts and operators that are not welcome any more.
    pub(crate) revoked: BTreeSet<String>,
    /// Secrets that can be used, and how often.
    pub(crate) tokens: BTreeMap<String, u32>,
}

/// The beliefs, shared.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) beliefs: Mutex<Beliefs>,
    pub(crate) joins: AtomicUsize,
    pub(crate) agent_ttl: Mutex<Option<Duration>>,
    /// What it says of whom hosts believe.
    pub(crate) trust: Mutex<Vec<TrustRootStep>>,
}

impl Gatekeeper for Registry {
    fn admit(&self, peer: &Peer) -> Result<(), String> {
        let beliefs = self.beliefs.lock().unwrap();
        match &peer.role {
            Some(Role::Agent { name, .. }) if beliefs.revoked.contains(name.as_str()) => {
                Err(format!("host {name} was revoked"))
            }
            Some(Role::Agent { name, host_id }) => match beliefs.hosts.get(name.as_str()) {
                Some((id, key)) if id == host_id && *key == peer.key => Ok(()),
                _ => Err(format!("host {name} is not enrolled with this key")),
            },
            Some(Role::Operator { name }) if beliefs.revoked.contains(name) => Err(format!("{name} was revoked")),
            Some(Role::Operator { name }) if !beliefs.operators.contains_key(name) => Err(format!("{name} is unknown")),
            _ => Ok(()),
        }
    }

    fn roles(&self, operator: &str) -> Vec<String> {
        self.beliefs.lock().unwrap().operators.get(operator).cloned().unwrap_or_default()
    }
}

/// The services.
#[derive(Clone)]
struct Services {
    authority: Arc<Authority>,
    registry: Arc<Registry>,
    labels: Labels,
}

#[tonic::async_trait]
impl EnrolmentService for Services {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        self.registry.joins.fetch_add(1, Ordering::SeqCst);
        let request = request.into_inner();
        let key =
            Authority::requested_key(&request.csr_der).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let host_id = format!("id-{}", self.registry.joins.load(Ordering::SeqCst));
        {
            let mut beliefs = self.registry.beliefs.lock().unwrap();
            if beliefs.hosts.contains_key(&request.name) {
                return Err(Status::already_exists(format!("there is a host {} already", request.name)));
            }
            match beliefs.tokens.get_mut(&request.token) {
                None => return Err(Status::permission_denied("the token has ended")),
                Some(0) => return Err(Status::permission_denied("the token is used up")),
                Some(uses) => *uses -= 1,
            }
            beliefs.hosts.insert(request.name.clone(), (host_id.clone(), key));
        }
        let name = request.name.parse().map_err(|_| Status::invalid_argument("name"))?;
        let ttl = self.registry.agent_ttl.lock().unwrap().unwrap_or(AGENT_TTL);
        let issued = self.authority.issue_agent(&request.csr_der, &name, &host_id, Timestamp::now(), ttl).unwrap();
        Ok(Response::new(JoinResponse {
            chain_der: issued.chain.iter().map(|one| one.to_vec()).collect(),
            roots_der: self.authority.roots().iter().map(|one| one.to_vec()).collect(),
            host_id,
            labels: self.labels.clone(),
            installation: self.authority.installation().to_owned(),
            trust: self.registry.trust.lock().unwrap().clone(),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = access::require_agent(&request)?;
        let csr = request.into_inner().csr_der;
        let issued =
            self.authority.issue_agent(&csr, &caller.name, &caller.host_id, Timestamp::now(), AGENT_TTL).unwrap();
        Ok(Response::new(RenewResponse {
            chain_der: issued.chain.iter().map(|one| one.to_vec()).collect(),
            roots_der: self.authority.roots().iter().map(|one| one.to_vec()).collect(),
        }))
    }
}

#[tonic::async_trait]
impl AgentService for Services {
    type SessionStream = ReceiverStream<Result<ControllerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        access::require_agent(&request)?;
        let mut up = request.into_inner();
        let (down, stream) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                let body = controller_message::Body::Acknowledge(Acknowledge { sequence: message.sequence });
                if down.send(Ok(ControllerMessage { body: Some(body) })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A running controller.
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Arc<Authority>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<()>,
    pub(crate) scratch: tempfile::TempDir,
}

impl Controller {
    /// Starts one with the usual limits, that does not wait long for streams when it stops.
    pub(crate) async fn start() -> Self {
        Self::start_with(Options { drain: Duration::from_millis(100), ..Options::default() }).await
    }

    /// Starts one.
    pub(crate) async fn start_with(options: Options) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let authority = Authority::create(&scratch.path().join("ca"), "installation-1", Timestamp::now()).unwrap();
        let authority = Arc::new(authority);
        let first = TrustRootStep { root: trust_root("ada").canonical().into_bytes(), signatures: Vec::new() };
        let registry = Arc::new(Registry { trust: Mutex::new(vec![first]), ..Registry::default() });
        let tls = Tls::new(Arc::clone(&authority), vec!["127.0.0.1".into()], Timestamp::now()).unwrap();
        let labels = BTreeMap::from([("role".to_owned(), "orders".to_owned())]);
        let services = Services { authority: Arc::clone(&authority), registry: Arc::clone(&registry), labels };
        let routes = Routes::new(AgentServiceServer::new(services.clone()).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(EnrolmentServiceServer::new(services).max_decoding_message_size(MESSAGE_BYTES));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let gatekeeper: Arc<dyn Gatekeeper> = registry.clone();
        let task = tokio::spawn(serve(listener, Arc::clone(&tls), routes, gatekeeper, options, stop.clone()));
        Self { address, authority, registry, tls, stop, task, scratch }
    }

    /// The addresses that clients know it by.
    pub(crate) fn addresses(&self) -> Vec<String> {
        vec![self.address.to_string()]
    }

    /// A join string for so many uses.
    pub(crate) fn token(&self, uses: u32) -> JoinString {
        let secret = new_secret().unwrap();
        self.registry.beliefs.lock().unwrap().tokens.insert(secret.clone(), uses);
        JoinString {
            addresses: self.addresses(),
            ca_fingerprint: self.authority.fingerprint(),
            trust: trust_root("ada").digest(),
            secret,
            labels: BTreeMap::from([("role".to_owned(), "orders".to_owned())]),
            allow: BTreeMap::new(),
        }
    }

    /// Where an agent keeps its identity.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Joins a host.
    pub(crate) async fn join(&self, name: &str) -> Arc<AgentIdentity> {
        let joined = client::join(&self.token(1), name.parse().unwrap(), &self.directory(name)).await.unwrap();
        Arc::new(joined.identity)
    }

    /// Replaces a host's certificate by one that was issued then, and reads the identity again.
    pub(crate) fn reissue(&self, identity: &AgentIdentity, issued_at: Timestamp, ttl: Duration) -> Arc<AgentIdentity> {
        let directory = self.directory(identity.name.as_str());
        let key = std::fs::read_to_string(directory.join("key.pem")).unwrap();
        let csr = authority::request_for(&rcgen::KeyPair::from_pem(&key).unwrap()).unwrap();
        let issued = self.authority.issue_agent(&csr, &identity.name, &identity.host_id, issued_at, ttl).unwrap();
        write_chain(&directory.join("chain.pem"), &issued.chain[0]);
        Arc::new(AgentIdentity::load(&directory).unwrap())
    }

    /// Makes an operator with these roles.
    pub(crate) fn operator(&self, name: &str, roles: &[&str], ttl: Duration) -> Profile {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        self.registry.beliefs.lock().unwrap().operators.insert(name.to_owned(), roles);
        let (key, csr) = authority::new_key().unwrap();
        let issued = self.authority.issue_operator(&csr, name, Timestamp::now(), ttl).unwrap();
        let roots = self.authority.roots();
        let installation = self.authority.installation();
        Profile::new(name, installation, self.addresses(), &roots, &issued.chain, key.serialize_pem())
    }

    /// Says that a host or an operator is not welcome any more.
    pub(crate) fn revoke(&self, name: &str) {
        self.registry.beliefs.lock().unwrap().revoked.insert(name.to_owned());
    }

    /// Stops it and waits until it has stopped.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Writes one certificate as PEM.
pub(crate) fn write_chain(path: &Path, der: &[u8]) {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    quell_link::files::write(path, pem.as_bytes()).unwrap();
}

/// An agent's open stream.
pub(crate) struct Session {
    pub(crate) up: mpsc::Sender<AgentMessage>,
    pub(crate) down: Streaming<ControllerMessage>,
}

impl Session {
    /// Opens a stream on a connection.
    pub(crate) async fn open(channel: Channel) -> Result<Self, Status> {
        let (up, messages) = mpsc::channel(4);
        let mut client = AgentServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let down = client.session(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Self { up, down })
    }

    /// Sends a message and waits until it comes back.
    pub(crate) async fn echo(&mut self, sequence: u64) -> Result<(), Status> {
        let _ = self.up.send(AgentMessage { sequence, body: None }).await;
        match self.down.message().await? {
            Some(ControllerMessage { body: Some(controller_message::Body::Acknowledge(back)) }) => {
                assert_eq!(back.sequence, sequence);
                Ok(())
            }
            other => Err(Status::internal(format!("not an echo: {other:?}"))),
        }
    }
}

/// A connection without a certificate, by somebody who only trusts the CA.
pub(crate) async fn anonymous(controller: &Controller) -> Channel {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(controller.authority.roots().remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let address = controller.address;
    let connect = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
            connector.connect(name, stream).await.map(hyper_util::rt::TokioIo::new)
        }
    });
    tonic::transport::Endpoint::from_static("http://quell.controller").connect_with_connector(connect).await.unwrap()
}

/// Makes a call that is answered once, by its path, with an empty message.
pub(crate) async fn call(channel: &Channel, path: &'static str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(Request::new(()), http::uri::PathAndQuery::from_static(path), codec).await.map(|_| ())
}

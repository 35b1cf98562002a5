//! The stolen controller: the real one's keys and address, and a key of its own that nobody believes.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use quell_link::{
    AGENT_TTL, MESSAGE_BYTES, access,
    authority::Authority,
    identity::Peer,
    rpc::{
        agent_service_server::{AgentService, AgentServiceServer},
        enrolment_service_server::{EnrolmentService, EnrolmentServiceServer},
    },
    server::{Gatekeeper, Options, Tls, serve},
    signing::{NewKey, SigningKey},
};
use quell_model::trust::TrustRoot;
use quell_wire::v1::{
    self, Acknowledge, AgentMessage, ControllerMessage, JoinRequest, JoinResponse, LogTail, Outcome, RenewRequest,
    RenewResponse, Sample, TrustRootStep, Welcome, agent_message::Body as Up, controller_message::Body as Down,
};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::PATIENT;

type Line = mpsc::Sender<Result<ControllerMessage, Status>>;

/// What it knows of its agents.
#[derive(Default)]
struct Agents {
    lines: BTreeMap<String, Line>,
    outcomes: Vec<(String, Outcome)>,
    samples: Vec<(String, Sample)>,
    tails: Vec<(String, LogTail)>,
}

struct Shared {
    authority: Arc<Authority>,
    key: NewKey,
    agents: Mutex<Agents>,
    news: Condvar,
    joins: AtomicUsize,
    generations: AtomicU64,
}

/// The stolen controller.
pub(crate) struct Evil {
    shared: Arc<Shared>,
    stop: CancellationToken,
    _runtime: Runtime,
}

/// Lets everybody in.
struct Everybody;

/// Signs bytes.
pub(crate) type Sign = Box<dyn Fn(&[u8]) -> String>;

impl Gatekeeper for Everybody {
    fn admit(&self, _: &Peer) -> Result<(), String> {
        Ok(())
    }

    fn roles(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

impl Evil {
    /// Takes the place of the controller of a data directory.
    pub(crate) fn start(data: &Path) -> Self {
        let config: toml::Table = std::fs::read_to_string(data.join("controller.toml")).unwrap().parse().unwrap();
        let listen = config["listen"].as_str().unwrap().to_owned();
        let authority = Arc::new(Authority::load(&data.join("authority")).unwrap());
        let shared = Arc::new(Shared {
            authority: Arc::clone(&authority),
            key: NewKey::make("eve").unwrap(),
            agents: Mutex::default(),
            news: Condvar::new(),
            joins: AtomicUsize::new(0),
            generations: AtomicU64::new(1 << 32),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let services = Services(Arc::clone(&shared));
        let routes = Routes::new(AgentServiceServer::new(services.clone()).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(EnrolmentServiceServer::new(services).max_decoding_message_size(MESSAGE_BYTES));
        let tls = Tls::new(authority, vec!["127.0.0.1".into()], Timestamp::now()).unwrap();
        let listener = runtime.block_on(TcpListener::bind(&listen)).unwrap();
        runtime.spawn(serve(listener, tls, routes, Arc::new(Everybody), Options::default(), stop.clone()));
        Self { shared, stop, _runtime: runtime }
    }

    /// The installation's identifier.
    pub(crate) fn installation(&self) -> &str {
        self.shared.authority.installation()
    }

    /// Signs with a key that nobody believes.
    pub(crate) fn sign(&self, namespace: &str, bytes: &[u8]) -> String {
        self.signer(namespace)(bytes)
    }

    /// Signs with a key that nobody believes.
    pub(crate) fn signer(&self, namespace: &str) -> Sign {
        let key = SigningKey::from_text(&self.shared.key.private).unwrap();
        let namespace = namespace.to_owned();
        Box::new(move |bytes| key.sign(&namespace, bytes).unwrap())
    }

    /// How many machines it has answered that wanted to join.
    pub(crate) fn joins(&self) -> usize {
        self.shared.joins.load(Ordering::SeqCst)
    }

    /// Counts what it assigns.
    pub(crate) fn next_generation(&self) -> u64 {
        self.shared.generations.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Waits for the first sample of a probe.
    pub(crate) fn sample(&self, host: &str, probe: &str) -> Sample {
        let of = |agents: &Agents| {
            agents
                .samples
                .iter()
                .find(|(from, sample)| from == host && sample.probe == probe)
                .map(|(_, one)| one.clone())
        };
        self.until(of, &format!("{host} says nothing of {probe}"))
    }

    /// Asks for the end of the log that a probe reads.
    pub(crate) fn tail(&self, host: &str, probe: &str) -> LogTail {
        let request_id = format!("tail {probe}");
        let request = v1::LogRequest { request_id: request_id.clone(), probe: probe.to_owned(), lines: 100 };
        self.say(host, Down::LogRequest(request));
        let of = |agents: &Agents| {
            let mut tails = agents.tails.iter();
            tails.find(|(from, tail)| from == host && tail.request_id == request_id).map(|(_, one)| one.clone())
        };
        self.until(of, &format!("{host} does not answer {request_id}"))
    }

    /// Waits until an agent has said hello.
    pub(crate) fn wait_for(&self, host: &str) {
        self.until(|agents| agents.lines.contains_key(host).then_some(()), &format!("{host} does not come"));
    }

    /// Knows an agent no more.
    pub(crate) fn forget(&self, host: &str) {
        self.shared.agents.lock().unwrap().lines.remove(host);
    }

    /// Says something to an agent.
    pub(crate) fn say(&self, host: &str, body: Down) {
        let line = self.shared.agents.lock().unwrap().lines[host].clone();
        line.blocking_send(Ok(ControllerMessage { body: Some(body) })).unwrap();
    }

    /// Gives an order, and waits for the outcome.
    pub(crate) fn order(&self, host: &str, command: v1::Command) -> Outcome {
        let key = command.idempotency_key.clone();
        self.shared.agents.lock().unwrap().outcomes.clear();
        self.say(host, Down::Command(command));
        let of = |agents: &Agents| {
            let mut outcomes = agents.outcomes.iter();
            outcomes.find(|(from, outcome)| from == host && outcome.idempotency_key == key).map(|(_, one)| one.clone())
        };
        self.until(of, &format!("{host} does not answer {key}"))
    }

    fn until<T>(&self, look: impl Fn(&Agents) -> Option<T>, what: &str) -> T {
        let begun = Instant::now();
        let mut agents = self.shared.agents.lock().unwrap();
        loop {
            if let Some(found) = look(&agents) {
                return found;
            }
            assert!(begun.elapsed() < PATIENT, "{what}");
            agents = self.shared.news.wait_timeout(agents, Duration::from_millis(100)).unwrap().0;
        }
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Clone)]
struct Services(Arc<Shared>);

#[tonic::async_trait]
impl AgentService for Services {
    type SessionStream = ReceiverStream<Result<ControllerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let name = access::require_agent(&request)?.name.to_string();
        let mut up = request.into_inner();
        let (down, stream) = mpsc::channel(64);
        let shared = Arc::clone(&self.0);
        let welcome = Welcome { epoch: 1, unix_ms: Timestamp::now().as_millisecond(), ..Welcome::default() };
        let _ = down.send(Ok(ControllerMessage { body: Some(Down::Welcome(welcome)) })).await;
        tokio::spawn(async move {
            while let Ok(Some(message)) = up.message().await {
                if message.sequence > 0 {
                    let body = Some(Down::Acknowledge(Acknowledge { sequence: message.sequence }));
                    let _ = down.send(Ok(ControllerMessage { body })).await;
                }
                let mut agents = shared.agents.lock().unwrap();
                match message.body {
                    Some(Up::Hello(_)) => drop(agents.lines.insert(name.clone(), down.clone())),
                    Some(Up::Outcome(outcome)) => agents.outcomes.push((name.clone(), outcome)),
                    Some(Up::Samples(batch)) => {
                        agents.samples.extend(batch.samples.into_iter().map(|sample| (name.clone(), sample)));
                    }
                    Some(Up::LogTail(tail)) => agents.tails.push((name.clone(), tail)),
                    _ => {}
                }
                shared.news.notify_all();
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl EnrolmentService for Services {
    /// Enrols whoever comes, and plants a signer of its own.
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        self.0.joins.fetch_add(1, Ordering::SeqCst);
        let (authority, request) = (&self.0.authority, request.into_inner());
        let name = request.name.parse().map_err(|_| Status::invalid_argument("name"))?;
        let issued = authority.issue_agent(&request.csr_der, &name, "evil-1", Timestamp::now(), AGENT_TTL).unwrap();
        let planted = TrustRoot {
            installation: authority.installation().to_owned(),
            version: 1,
            allowed_signers: format!("eve {}\n", self.0.key.public),
            required: BTreeMap::new(),
        };
        Ok(Response::new(JoinResponse {
            chain_der: issued.chain.iter().map(|one| one.to_vec()).collect(),
            roots_der: authority.roots().iter().map(|one| one.to_vec()).collect(),
            host_id: "evil-1".to_owned(),
            labels: Default::default(),
            installation: authority.installation().to_owned(),
            trust: vec![TrustRootStep { root: planted.canonical().into_bytes(), signatures: Vec::new() }],
        }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unavailable("not now"))
    }
}

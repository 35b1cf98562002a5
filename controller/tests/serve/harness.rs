//! A controller in this process, in memory or on disk, and a fake agent that says what a test tells it to say.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use quell_controller::{
    config::Config,
    decider,
    init::{self, AUTHORITY},
    serve::{Controller, Error, Parts},
    store::{self, Batch, Fence, MemoryStore, Reader, Revision, Row, Store},
};
use quell_engine::{Input, state::Table};
use quell_link::{
    authority::Authority,
    client::{self, AgentIdentity},
    join::JoinString,
    profile::Profile,
    rpc::{agent_service_client::AgentServiceClient, operator_service_client::OperatorServiceClient},
    signing::SigningKey,
};
use quell_model::{
    digest::Digest,
    manifest::{self, File, Parsed},
    selector::Labels,
    trust::{NAMESPACE_POLICY, PolicySet, TrustRoot, run::Run},
};
use quell_wire::v1::{
    AgentMessage, ApplyRequest, ControllerMessage, CreateTokenRequest, Hello, ManifestFile, RunRequest, Sample,
    SampleBatch, SignedSet, Welcome, agent_message, controller_message::Body,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Channel};

/// How long a condition may take to come true before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a test sees of the inside of a controller, and how it holds commits up.
#[derive(Default)]
pub(crate) struct Inside {
    inputs: Mutex<Vec<String>>,
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    waiting: bool,
}

impl Inside {
    /// How many inputs of a kind ("Ended", "Disconnected") were decided.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.inputs.lock().unwrap().iter().filter(|input| input.as_str() == kind).count()
    }

    /// Commits wait from now on.
    pub(crate) fn close(&self) {
        self.gate.lock().unwrap().closed = true;
    }

    /// Commits go on.
    pub(crate) fn open(&self) {
        self.gate.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    /// Whether a commit waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.gate.lock().unwrap().waiting
    }

    fn pass(&self) {
        let mut gate = self.gate.lock().unwrap();
        gate.waiting = true;
        while gate.closed {
            gate = self.changed.wait(gate).unwrap();
        }
        gate.waiting = false;
    }
}

/// A store whose commits can be held up.
struct Gated {
    inner: Box<dyn Store>,
    inside: Arc<Inside>,
}

impl Store for Gated {
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, store::Error> {
        self.inner.get(table, key)
    }

    fn scan(&self, table: Option<Table>) -> Result<Vec<Row>, store::Error> {
        self.inner.scan(table)
    }

    fn commit(&mut self, batch: Batch) -> Result<Revision, store::Error> {
        self.inside.pass();
        self.inner.commit(batch)
    }

    fn lease(&mut self, holder: &str, time: Timestamp) -> Result<Fence, store::Error> {
        self.inner.lease(holder, time)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.inner.reader()
    }
}

/// A controller that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) decider: decider::Handle,
    pub(crate) inside: Arc<Inside>,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) profile: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

/// Starts a controller in memory.
pub(crate) async fn start() -> Running {
    start_with(|_| {}).await
}

/// Starts a controller in memory with a configuration that differs from the usual one.
pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Running {
    start_from(MemoryStore::new(), configure).await
}

/// Starts a controller with what a store holds already.
pub(crate) async fn start_from(mut store: MemoryStore, configure: impl FnOnce(&mut Config)) -> Running {
    let (directory, profile) = made();
    let data_dir = directory.path().join("controller");
    let mut config = Config::load(&data_dir).unwrap();
    configure(&mut config);
    let root = TrustRoot::parse(&std::fs::read(data_dir.join(init::TRUST)).unwrap()).unwrap();
    init::found(&mut store, &root, Timestamp::now()).unwrap();
    let authority = Arc::new(Authority::load(&data_dir.join(AUTHORITY)).unwrap());
    let engine = Box::new(quell_engine::step);
    launch(directory, profile, Parts { config, data_dir, authority, store: Box::new(store), engine }).await
}

/// Starts a controller on disk, which [`Running::restarted`] finds again.
pub(crate) async fn start_on_disk() -> Running {
    let (directory, profile) = made();
    let parts = Parts::open(&directory.path().join("controller")).unwrap();
    launch(directory, profile, parts).await
}

/// What `init` makes: a directory, and the first operator's profile in it.
pub(crate) fn made() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let local = "127.0.0.1:0".parse().unwrap();
    let options = init::Options {
        data_dir: directory.path().join("controller"),
        listen: local,
        http: local,
        addresses: Vec::new(),
        operator: "admin".to_owned(),
        allowed_signers: None,
    };
    let profile = init::run(&options, Timestamp::now()).unwrap();
    (directory, profile)
}

async fn launch(directory: tempfile::TempDir, profile: PathBuf, parts: Parts) -> Running {
    let inside = Arc::new(Inside::default());
    let seen = inside.clone();
    let mut engine = parts.engine;
    let parts = Parts {
        store: Box::new(Gated { inner: parts.store, inside: inside.clone() }),
        engine: Box::new(move |windows, state, now, input| {
            seen.inputs.lock().unwrap().push(kind(&input));
            engine(windows, state, now, input)
        }),
        ..parts
    };
    let controller = tokio::task::spawn_blocking(|| Controller::build(parts)).await.unwrap().unwrap();
    let stop = CancellationToken::new();
    Running {
        address: controller.address().unwrap(),
        http: controller.http_address().unwrap().unwrap(),
        decider: controller.decider(),
        inside,
        directory,
        profile,
        task: tokio::spawn(controller.run(stop.clone())),
        stop,
    }
}

/// The name of an input's kind.
fn kind(input: &Input) -> String {
    let text = format!("{input:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

impl Running {
    /// The first operator's signature.
    pub(crate) fn sign(&self, namespace: &str, bytes: &[u8]) -> String {
        let profile = Profile::load(&self.profile).unwrap();
        SigningKey::from_text(profile.signing_key.as_deref().unwrap()).unwrap().sign(namespace, bytes).unwrap()
    }

    fn signed_set(&self, set: &PolicySet) -> SignedSet {
        let bytes = set.canonical().into_bytes();
        SignedSet { signatures: vec![self.sign(NAMESPACE_POLICY, &bytes)], policy_set: bytes }
    }

    /// A run, signed.
    pub(crate) fn signed(&self, run: &Run) -> RunRequest {
        let installation = self.decider.state().meta.installation.clone();
        let set = PolicySet::of_run(run, &installation, Timestamp::now()).unwrap();
        RunRequest { run: run.canonical().into_bytes(), set: Some(self.signed_set(&set)) }
    }

    /// Manifests of a namespace that is empty so far, signed.
    pub(crate) fn signed_files(&self, files: Vec<ManifestFile>) -> ApplyRequest {
        let texts = files.iter().map(|file| File { name: file.name.clone(), text: file.text.clone() });
        let parsed = manifest::parse(&texts.collect::<Vec<_>>()).unwrap();
        let key = |one: &Parsed| format!("{}/{}", one.manifest.kind(), one.manifest.name().name);
        let set = PolicySet {
            installation: self.decider.state().meta.installation.clone(),
            namespace: parsed[0].manifest.name().namespace.clone(),
            version: 1,
            issued: Timestamp::now(),
            expires: Timestamp::now() + Duration::from_secs(3_600),
            manifests: parsed.iter().map(|one| (key(one), one.manifest.digest())).collect(),
            one_shot: None,
            limits: false,
        };
        ApplyRequest { files, sets: vec![self.signed_set(&set)], ..ApplyRequest::default() }
    }

    /// The first operator.
    pub(crate) async fn operator(&self) -> OperatorServiceClient<Channel> {
        let decider = self.decider.clone();
        until("the first operator is admitted", || decider.state().operators.contains_key("admin")).await;
        let profile = Profile::load(&self.profile).unwrap();
        OperatorServiceClient::new(profile.connect().await.unwrap())
    }

    /// Joins a host.
    pub(crate) async fn join(&self, name: &str) -> Arc<AgentIdentity> {
        let labels = Labels::from([("role".to_owned(), "orders".to_owned())]);
        let request = CreateTokenRequest { ttl_ms: 60_000, uses: 1, labels: labels.clone(), name: name.to_owned() };
        let token = self.operator().await.create_token(request).await.unwrap().into_inner();
        let join = JoinString {
            addresses: token.addresses,
            ca_fingerprint: token.ca_fingerprint.parse().unwrap(),
            trust: Digest::of(&std::fs::read(self.directory.path().join("controller").join(init::TRUST)).unwrap()),
            secret: token.secret,
            labels,
            allow: Default::default(),
        };
        let directory = self.directory.path().join(name);
        let joined = client::join(&join, name.parse().unwrap(), &directory).await.unwrap();
        Arc::new(joined.identity)
    }

    /// A fake agent that has joined, connected and been welcomed.
    pub(crate) async fn agent(&self, name: &str) -> FakeAgent {
        let identity = self.join(name).await;
        FakeAgent::welcomed(&identity).await
    }

    /// Asks for the end and waits for it.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("the end takes too long").unwrap()
    }

    /// The same controller after a clean stop and a new start, on the same disk and port.
    pub(crate) async fn restarted(self) -> Self {
        let Self { directory, profile, decider, inside, stop, task, .. } = self;
        drop((decider, inside));
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("the end takes too long").unwrap().unwrap();
        let parts = Parts::open(&directory.path().join("controller")).unwrap();
        launch(directory, profile, parts).await
    }

    /// Waits for an end that nobody asked for.
    pub(crate) async fn stopped_by_itself(self) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it goes on").unwrap()
    }

    /// Asks for the end.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.cancel();
    }
}

/// Not an agent: it speaks the protocol and does nothing that it is told.
pub(crate) struct FakeAgent {
    pub(crate) outbound: mpsc::Sender<AgentMessage>,
    pub(crate) inbound: Streaming<ControllerMessage>,
    pub(crate) welcome: Welcome,
}

/// Opens a stream, without a word.
pub(crate) async fn open(
    identity: &Arc<AgentIdentity>,
) -> Result<(mpsc::Sender<AgentMessage>, Streaming<ControllerMessage>), Status> {
    let channel = client::connect_agent(&identity.addresses, identity)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let (outbound, receiver) = mpsc::channel(16);
    let inbound = AgentServiceClient::new(channel).session(ReceiverStream::new(receiver)).await?.into_inner();
    Ok((outbound, inbound))
}

/// What an agent says first.
pub(crate) fn hello() -> AgentMessage {
    let hello = Hello { agent_version: "0.0.0-fake".into(), protocol: 1, instance: "fake".into(), ..Hello::default() };
    message(0, agent_message::Body::Hello(hello))
}

/// A message with its number.
pub(crate) fn message(sequence: u64, body: agent_message::Body) -> AgentMessage {
    AgentMessage { sequence, body: Some(body) }
}

/// A message with one sample.
pub(crate) fn sample(sample: Sample) -> AgentMessage {
    message(0, agent_message::Body::Samples(SampleBatch { samples: vec![sample] }))
}

impl FakeAgent {
    /// Connects and is welcomed.
    pub(crate) async fn welcomed(identity: &Arc<AgentIdentity>) -> Self {
        let (outbound, mut inbound) = open(identity).await.unwrap();
        outbound.send(hello()).await.unwrap();
        let first = next(&mut inbound).await.unwrap().expect("a welcome");
        let Some(Body::Welcome(welcome)) = first.body else { panic!("not a welcome: {first:?}") };
        Self { outbound, inbound, welcome }
    }

    /// Says something.
    pub(crate) async fn say(&self, message: AgentMessage) {
        self.outbound.send(message).await.unwrap();
    }

    /// The next acknowledgement; other messages are passed over.
    pub(crate) async fn acknowledged(&mut self) -> u64 {
        loop {
            let message = next(&mut self.inbound).await.unwrap().expect("the stream goes on");
            if let Some(Body::Acknowledge(acknowledge)) = message.body {
                return acknowledge.sequence;
            }
        }
    }

    /// How the stream ends; what comes before is passed over.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        while next(&mut self.inbound).await?.is_some() {}
        Ok(())
    }
}

/// The next message of a stream, soon.
pub(crate) async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    tokio::time::timeout(PATIENCE, stream.message()).await.expect("nothing came")
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("it never came true: {what}"));
}

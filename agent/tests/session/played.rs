//! The other side of a session, played by a test: the controller's stream and the executor of orders.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use quell_agent::{
    belief,
    clock::ClockOffset,
    config::Config,
    execute::Report,
    hold::Hold,
    managers::Managers,
    probes::{
        Boxed, Context, Sample,
        runner::{Runner, SAMPLES},
    },
    session::{Connect, Ended, Inbound, Messages, Orders, Parts, Session},
    watch::Watcher,
};
use quell_wire::v1::{
    self, Acknowledge, CancelCommand, Command, ControllerMessage, Hello, Welcome, agent_message::Body as Up,
    controller_message::Body as Down,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

/// How long anything may take: machines are busy.
pub(crate) const PATIENT: Duration = Duration::from_secs(20);

/// What the executor was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Played {
    Submitted(String),
    Cancelled(String),
    Acknowledged(String),
    Believed(String),
}

/// What the executor was told, in order.
pub(crate) struct Told(mpsc::UnboundedReceiver<Played>);

impl Told {
    pub(crate) async fn next(&mut self) -> Played {
        tokio::time::timeout(PATIENT, self.0.recv()).await.expect("the executor was told nothing").unwrap()
    }
}

struct Executor {
    told: mpsc::UnboundedSender<Played>,
    journal: Vec<v1::JournalEntry>,
}

impl Executor {
    fn tell(&self, played: Played) -> Boxed<'_, ()> {
        self.told.send(played).unwrap();
        Box::pin(std::future::ready(()))
    }
}

impl Orders for Executor {
    fn submit(&self, command: Command) -> Boxed<'static, ()> {
        let told = self.told.clone();
        Box::pin(async move { told.send(Played::Submitted(command.command_id)).unwrap() })
    }

    fn at_hand(&self) -> BTreeSet<String> {
        ["cmd-70".to_owned()].into()
    }

    fn cancel(&self, cancel: CancelCommand) -> Boxed<'_, ()> {
        self.tell(Played::Cancelled(cancel.command_id))
    }

    fn acknowledged(&self, key: String) -> Boxed<'_, ()> {
        self.tell(Played::Acknowledged(key))
    }

    fn journal(&self) -> Vec<v1::JournalEntry> {
        self.journal.clone()
    }

    fn fence(&self) -> u64 {
        0
    }

    fn believe(&self, change: v1::SignedChange) -> Boxed<'_, ()> {
        self.tell(Played::Believed(String::from_utf8(change.document).unwrap()))
    }

    /// Whoever is asked here has signed every probe that came along as a policy.
    fn vouched(&self, signed: &[v1::SignedPolicies]) -> BTreeSet<String> {
        signed.iter().flat_map(|one| &one.policies).map(|spec| String::from_utf8(spec.clone()).unwrap()).collect()
    }

    fn beliefs(&self) -> belief::Told {
        belief::Told {
            trust_version: 4,
            label_version: 2,
            labels: [("role".to_owned(), "web".to_owned())].into(),
            set_versions: [("shop".parse::<quell_model::name::ObjectName>().unwrap().into(), 7)].into(),
        }
    }
}

type Attempt = (Messages, oneshot::Sender<Result<Inbound, String>>);

struct Door {
    attempts: mpsc::Sender<Attempt>,
    made: Arc<AtomicUsize>,
}

impl Connect for Door {
    fn connect(&self, messages: Messages) -> Boxed<'static, Result<Inbound, String>> {
        self.made.fetch_add(1, Ordering::Relaxed);
        let attempts = self.attempts.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            attempts.send((messages, answer)).await.map_err(|_| "the test is over".to_owned())?;
            answered.await.map_err(|_| "the test is over".to_owned())?
        })
    }
}

/// An agent's session and everything around it that the test plays.
pub(crate) struct Agent {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) orders: Told,
    pub(crate) hold: watch::Sender<Option<Hold>>,
    pub(crate) clock: ClockOffset,
    pub(crate) attempts_made: Arc<AtomicUsize>,
    samples: mpsc::Sender<Sample>,
    attempts: mpsc::Receiver<Attempt>,
    stop: CancellationToken,
    task: JoinHandle<Ended>,
}

impl Agent {
    pub(crate) async fn start() -> Self {
        Self::with_journal(Vec::new()).await
    }

    /// An agent whose journal holds this from an earlier process.
    pub(crate) async fn with_journal(journal: Vec<v1::JournalEntry>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Arc::new(Config::parse("", Path::new("agent.toml")).unwrap());
        let clock = ClockOffset::default();
        let context = Context {
            managers: Arc::new(Managers::open(&config, dir.path()).await.unwrap()),
            config,
            watcher: Watcher::start().unwrap(),
            clock: clock.clone(),
        };
        let (samples, taken) = mpsc::channel(SAMPLES);
        let (reports, reported) = mpsc::channel(16);
        let (tell, told) = mpsc::unbounded_channel();
        let (hold, held) = watch::channel(None);
        let (door, attempts) = mpsc::channel(1);
        let attempts_made = Arc::new(AtomicUsize::new(0));
        let session = Session::new(Parts {
            connect: Box::new(Door { attempts: door, made: Arc::clone(&attempts_made) }),
            orders: Arc::new(Executor { told: tell, journal }),
            reports: reported,
            runner: Runner::new(context, samples.clone()),
            samples: taken,
            hold: held,
            clock: clock.clone(),
            facts: Default::default(),
            capabilities: vec!["probe.test".to_owned()],
            instance: "one".to_owned(),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(session.run(stop.clone()));
        Self { dir, reports, orders: Told(told), hold, clock, attempts_made, samples, attempts, stop, task }
    }

    async fn attempt(&mut self) -> Attempt {
        tokio::time::timeout(PATIENT, self.attempts.recv()).await.expect("no attempt was made").unwrap()
    }

    /// Lets an attempt fail.
    pub(crate) async fn refuse(&mut self) {
        let (_messages, answer) = self.attempt().await;
        answer.send(Err("not now".to_owned())).ok().unwrap();
    }

    /// Lets an attempt open its stream.
    pub(crate) async fn accept(&mut self) -> Peer {
        let (up, answer) = self.attempt().await;
        let (down, said) = mpsc::channel(64);
        answer.send(Ok(Box::pin(ReceiverStream::new(said)))).ok().unwrap();
        Peer { up, down }
    }

    /// Opens the stream and welcomes the agent.
    pub(crate) async fn welcome(&mut self, welcome: Welcome) -> (Hello, Peer) {
        let mut peer = self.accept().await;
        let (0, Up::Hello(hello)) = peer.message().await else { panic!("the first message is no hello") };
        peer.say(Down::Welcome(welcome)).await;
        (hello, peer)
    }

    /// A probe has looked.
    pub(crate) async fn sample(&self, key: &str, value: f64, pushed: bool) {
        let fields = [("value".to_owned(), value.into())].into();
        let sample = Sample { key: key.into(), taken: Instant::now(), fields, pushed, urgent: false };
        self.samples.send(sample).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        assert_eq!(self.task.await.unwrap(), Ended::Stopped);
    }
}

/// One stream, from the controller's side.
pub(crate) struct Peer {
    up: Messages,
    down: mpsc::Sender<Result<ControllerMessage, String>>,
}

impl Peer {
    pub(crate) async fn say(&self, body: Down) {
        self.down.send(Ok(ControllerMessage { body: Some(body) })).await.unwrap();
    }

    pub(crate) async fn acknowledge(&self, sequence: u64) {
        self.say(Down::Acknowledge(Acknowledge { sequence })).await;
    }

    async fn message(&mut self) -> (u64, Up) {
        let message = tokio::time::timeout(PATIENT, self.up.next()).await.expect("the agent says nothing").unwrap();
        (message.sequence, message.body.unwrap())
    }

    /// The next message that needs an acknowledgement.
    pub(crate) async fn numbered(&mut self) -> (u64, Up) {
        loop {
            let (number, body) = self.message().await;
            if number > 0 {
                return (number, body);
            }
        }
    }

    /// The samples of a probe in the next batch that has any.
    pub(crate) async fn samples_of(&mut self, key: &str) -> Vec<v1::Sample> {
        loop {
            if let (0, Up::Samples(batch)) = self.message().await {
                let wanted: Vec<_> = batch.samples.into_iter().filter(|sample| sample.probe == key).collect();
                if !wanted.is_empty() {
                    return wanted;
                }
            }
        }
    }
}

/// The value of a sample of [`Agent::sample`].
pub(crate) fn value(sample: &v1::Sample) -> f64 {
    match sample.fields[0].value {
        Some(v1::field::Value::Number(number)) => number,
        ref other => panic!("no number: {other:?}"),
    }
}

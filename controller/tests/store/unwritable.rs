//! When the audit cannot be written nothing new starts; what stops things, and the audit itself, still work.
//!
//! The engine is the real one, and so is the store; only how much room its disk has is said by the test.
//! `tests/host/fulldisk.sh` fills a real disk.

use std::{
    io,
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use jiff::Timestamp;
use quell_controller::{
    audit,
    decider::{Decider, Effects, Failed, Handle, Options},
    init,
    store::{self, Batch, DiskStore, Error, Fence, Reader, Revision, Row, Store},
};
use quell_engine::{
    Actor, Effect, Input,
    input::{Hello, HoldScope, Reply, Request, Sample},
    state::Table,
};
use quell_link::{
    authority::Authority,
    signing::{NewKey, SigningKey},
};
use quell_model::{
    digest::Digest,
    manifest,
    probe::ProbeKey,
    selector::Selector,
    trust::{NAMESPACE_POLICY, PolicySet, SignedSet, TrustRoot, run::Run},
};

use super::support::small;

/// How much room the disk has.
#[derive(Default)]
struct Room {
    is_full: AtomicBool,
    is_used_up: AtomicBool,
}

struct Narrow(DiskStore, Arc<Room>);

impl Store for Narrow {
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, Error> {
        self.0.get(table, key)
    }
    fn scan(&self, table: Option<Table>) -> Result<Vec<Row>, Error> {
        self.0.scan(table)
    }
    fn commit(&mut self, batch: Batch) -> Result<Revision, Error> {
        if self.1.is_used_up.load(Ordering::SeqCst) {
            return Err(Error::Full { path: "log".into() });
        }
        self.0.commit(batch)
    }
    fn lease(&mut self, holder: &str, time: Timestamp) -> Result<Fence, Error> {
        self.0.lease(holder, time)
    }
    fn reader(&self) -> Arc<dyn Reader> {
        self.0.reader()
    }
    fn is_full(&self) -> bool {
        self.1.is_full.load(Ordering::SeqCst)
    }
    fn close(self: Box<Self>) -> Result<(), Error> {
        Box::new(self.0).close()
    }
}

/// A controller with one host, which has connected.
struct Bench {
    decider: Decider,
    room: Arc<Room>,
    effects: mpsc::Receiver<Effect>,
    directory: tempfile::TempDir,
}

const INSTALLATION: &str = "installation-1";

/// The key of the one person whom hosts believe.
static KEY: LazyLock<NewKey> = LazyLock::new(|| NewKey::make("mira").unwrap());

async fn start(options: store::Options) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(&directory.path().join("authority"), INSTALLATION, Timestamp::now()).unwrap();
    let mut store = DiskStore::create(directory.path(), options).unwrap();
    store.sign_with(Arc::new(authority)).unwrap();
    let root = TrustRoot {
        installation: INSTALLATION.to_owned(),
        version: 1,
        allowed_signers: format!("mira {}\n", KEY.public),
        required: Default::default(),
    };
    init::found(&mut store, &root, Timestamp::now()).unwrap();
    let room = Arc::new(Room::default());
    let (sender, effects) = mpsc::channel();
    let sink: Box<dyn Effects> = Box::new(move |effect| drop(sender.send(effect)));
    let decider = Decider::start(Options::new(Box::new(Narrow(store, room.clone())), sink, "test")).unwrap();
    let (handle, token) = (decider.handle(), Digest::of(b"token"));
    let later = handle.now() + Duration::from_secs(3_600);
    let made = Request::CreateToken { hash: token, expires: later, uses: 1, labels: Default::default(), name: None };
    ask(&handle, made).await.unwrap();
    let joined = Request::Enrol {
        token,
        name: "planthost1".parse().unwrap(),
        host_id: "id-1".to_owned(),
        key: Digest::of(b"key"),
        certificate_expires: later,
        agent_version: "0.1.0".to_owned(),
    };
    handle.request(Actor::Controller, joined).await.unwrap();
    let hello = Hello { agent_version: "0.1.0".to_owned(), instance: "1".to_owned(), ..Hello::default() };
    handle
        .input_durable(Input::Connected { host: "planthost1".parse().unwrap(), hello: Box::new(hello) })
        .await
        .unwrap();
    Bench { decider, room, effects, directory }
}

async fn ask(handle: &Handle, request: Request) -> Result<Reply, Failed> {
    handle.request(Actor::Person("mira".to_owned()), request).await
}

fn run(number: u32) -> Request {
    let with = serde_json::json!({ "argv": ["/bin/true"] }).as_object().unwrap().clone();
    let run = Run::new(format!("request-{number}"), "exec".to_owned(), with, Selector::All);
    let bytes = PolicySet::of_run(&run, INSTALLATION, Timestamp::now()).unwrap().canonical().into_bytes();
    let key = SigningKey::from_text(&KEY.private).unwrap();
    let signatures = vec![key.sign(NAMESPACE_POLICY, &bytes).unwrap()];
    Request::Run { run: Box::new(run), set: SignedSet { bytes, signatures } }
}

fn freeze() -> Request {
    let (scope, span) = (HoldScope::Hosts(Selector::All), Duration::from_secs(600));
    Request::Hold { scope, span, reason: "the shop is open".to_owned() }
}

fn commands(effects: &mpsc::Receiver<Effect>) -> usize {
    effects.try_iter().filter(|effect| matches!(effect, Effect::Command { .. })).count()
}

fn verified(data_dir: &Path) -> Result<quell_model::audit::Summary, audit::Error> {
    let options = audit::Options { data_dir: data_dir.to_owned(), since: None, fingerprint: None };
    audit::verify(&options, &mut |_| {})
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_reserve_is_used_up_as_well_nothing_happens_at_all() {
    let bench = start(small()).await;
    let handle = bench.decider.handle();
    let before = handle.head();
    bench.room.is_used_up.store(true, Ordering::SeqCst);
    assert!(matches!(ask(&handle, run(1)).await, Err(Failed::Unavailable(_))));
    assert_eq!((handle.head(), commands(&bench.effects)), (before, 0), "nothing happens without its record");
    bench.room.is_used_up.store(false, Ordering::SeqCst);
    ask(&handle, run(1)).await.unwrap();
    assert_eq!(commands(&bench.effects), 1, "and it goes on with room");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_no_plan_starts_and_freezing_revoking_and_the_audit_work_from_the_reserve() {
    let bench = start(small()).await;
    let handle = bench.decider.handle();
    ask(&handle, run(1)).await.unwrap();
    assert_eq!(commands(&bench.effects), 1, "with room a plan starts");

    bench.room.is_full.store(true, Ordering::SeqCst);
    let nobody = || Input::Samples { host: "planthost1".parse().unwrap(), samples: vec![] };
    while !handle.state().windows.values().any(|window| window.reason.contains("full")) {
        handle.input_durable(nobody()).await.unwrap();
    }
    let Reply::Plan { hold: Some(hold), .. } = ask(&handle, run(2)).await.unwrap() else { panic!("it is not held") };
    assert!(hold.reason.contains("full"), "{hold:?}");
    let Reply::Window(window) = ask(&handle, freeze()).await.unwrap() else { panic!("no freeze") };
    ask(&handle, Request::Release { window: Some(window), reason: "over".to_owned() }).await.unwrap();
    let revoke = Request::RevokeHost { name: "planthost1".parse().unwrap(), reason: "stolen".to_owned() };
    ask(&handle, revoke).await.unwrap();
    let records = handle.lines(1, 1_000).await.unwrap();
    assert_eq!(records.len() as u64, handle.head().sequence, "the audit can be read");
    let released: Vec<Effect> = bench.effects.try_iter().collect();
    assert!(!released.iter().any(|effect| matches!(effect, Effect::Command { .. })), "{released:?}");
    assert!(released.iter().any(|effect| matches!(effect, Effect::Disconnect { .. })), "{released:?}");
    handle.stop().await;
    handle.ended().await.unwrap();
    assert_eq!(verified(bench.directory.path()).unwrap().last, handle.head().sequence);
}

/// Whether the disk of the next test fails.
static FAILS: AtomicBool = AtomicBool::new(false);

#[tokio::test(flavor = "multi_thread")]
async fn when_a_sync_fails_nothing_that_waited_for_it_happens_and_the_controller_ends() {
    let sync = |file: &std::fs::File| match FAILS.load(Ordering::SeqCst) {
        true => Err(io::Error::other("the disk is gone")),
        false => file.sync_data(),
    };
    let bench = start(store::Options { sync, ..small() }).await;
    let handle = bench.decider.handle();
    FAILS.store(true, Ordering::SeqCst);
    let before = handle.head();
    assert!(matches!(ask(&handle, run(1)).await, Err(Failed::Unavailable(_))));
    assert!(handle.ended().await.is_err(), "it does not go on without knowing what is durable");
    assert_eq!((handle.head(), commands(&bench.effects)), (before, 0));
}

const UPTIME: &str = "
apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: up }
spec:
  description: The host has been up.
  hosts: all
  trigger: { when: host.uptime > 5 }
  tell: [{ at: firing, contact: on-call, text: it is up }]
";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_due_when_there_was_no_room_at_all_is_done_when_there_is() {
    let bench = start(small()).await;
    let handle = bench.decider.handle();
    let file = manifest::File { name: "up.yaml".to_owned(), text: UPTIME.to_owned() };
    let put = manifest::parse(&[file]).unwrap().into_iter().map(|parsed| parsed.canonical).collect();
    ask(&handle, Request::Apply { put, remove: vec![], sets: vec![] }).await.unwrap();
    let sample = || {
        let fields = Arc::new([("uptime".to_owned(), 10.0.into())].into());
        let sample = Sample { probe: ProbeKey::host(), taken_at: handle.now(), fields };
        Input::Samples { host: "planthost1".parse().unwrap(), samples: vec![sample] }
    };
    let told = || bench.effects.try_iter().filter(|effect| matches!(effect, Effect::Notify { .. })).count();
    bench.room.is_used_up.store(true, Ordering::SeqCst);
    assert!(handle.input_durable(sample()).await.is_err(), "the alert cannot be recorded");
    assert_eq!(told(), 0);
    bench.room.is_used_up.store(false, Ordering::SeqCst);
    handle.input_durable(sample()).await.unwrap();
    assert_eq!(told(), 1, "people hear of it all the same");
}

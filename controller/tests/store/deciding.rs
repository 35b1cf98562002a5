//! The decider: what it commits, when it tells, and how it ends.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use jiff::Timestamp;
use quell_controller::{
    decider::{Clock, Decider, Effects, Engine, Failed, Handle, Options},
    store::{Batch, Error, Fence, MemoryStore, RESTORED, Reader, Revision, Row, Store},
};
use quell_engine::{
    Actor, Effect, Input, Step,
    id::WindowId,
    input::{HoldScope, Refusal, Reply, Request},
    state::Table,
};
use tokio::sync::oneshot;

use super::support::{at, change, commit};

/// What a test turns in a store.
#[derive(Default)]
struct Switches {
    commits: AtomicU64,
    refuse: AtomicBool,
    fail: AtomicBool,
    is_full: AtomicBool,
}

/// A memory store that counts, refuses and fails on demand.
struct Switched(MemoryStore, Arc<Switches>);

impl Store for Switched {
    fn get(&self, table: Table, key: &str) -> Result<Option<Row>, Error> {
        self.0.get(table, key)
    }
    fn scan(&self, table: Option<Table>) -> Result<Vec<Row>, Error> {
        self.0.scan(table)
    }
    fn commit(&mut self, batch: Batch) -> Result<Revision, Error> {
        if self.1.refuse.load(Ordering::SeqCst) {
            return Err(Error::Full { path: "the disk".into() });
        }
        if self.1.fail.load(Ordering::SeqCst) {
            return Err(Error::Stopped { reason: "the disk is gone".to_owned() });
        }
        self.1.commits.fetch_add(1, Ordering::SeqCst);
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
}

/// Everything around a decider under test.
struct Bench {
    decider: Decider,
    switches: Arc<Switches>,
    effects: mpsc::Receiver<Effect>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn handle(&self) -> Handle {
        self.decider.handle()
    }

    fn commits(&self) -> u64 {
        self.switches.commits.load(Ordering::SeqCst)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn release(host: &str) -> Effect {
    Effect::Disconnect { host: host.parse().unwrap(), reason: String::new() }
}

fn disconnected(host: &str) -> Input {
    Input::Disconnected { host: host.parse().unwrap() }
}

/// What [`play`] is asked to do.
fn note(text: &str) -> Request {
    let release = Request::Release { window: None, reason: text.to_owned() };
    assert!(matches!(release, Request::Release { .. }));
    release
}

/// A stand-in for the engine: samples change nothing, a host that goes away is recorded and has an effect, requests do
/// what their reason says.
fn play(input: &Input, now: Timestamp) -> Step {
    let mut step = Step::default();
    match input {
        Input::Disconnected { host } => {
            step.changes.push(change("gone", now.as_second() - at(0).as_second(), vec![]));
            step.effects.push(release(host.as_str()));
        }
        Input::Request { request, .. } => match &**request {
            Request::Release { reason, .. } if reason == "refuse" => {
                step.reply = Some(Err(Refusal::Conflict("no".to_owned())));
            }
            Request::Release { reason, .. } if reason == "panic" => panic!("asked to"),
            Request::Release { reason, .. } if reason == "wake" => {
                step.effects.push(Effect::WakeAt(now + Duration::from_millis(30)));
            }
            Request::Release { .. } => step.changes.push(change("released", 1, vec![])),
            Request::Hold { .. } => {
                step.changes.push(change("held", 1, vec![]));
                step.reply = Some(Ok(Reply::Window(WindowId(7))));
            }
            _ => {}
        },
        _ => {}
    }
    step
}

fn describe(input: &Input) -> String {
    match input {
        Input::Started { restored } => format!("started {restored}"),
        Input::Tick => "tick".to_owned(),
        Input::ClockJumped { seconds } => format!("jumped {seconds}"),
        Input::Disconnected { host } => format!("gone {host}"),
        Input::Samples { .. } => "samples".to_owned(),
        Input::Request { request, .. } => match &**request {
            Request::Release { window, reason } => format!("release {window:?} {reason}"),
            Request::Hold { scope: HoldScope::Hosts(hosts), .. } => format!("hold {hosts:?}"),
            _ => "request".to_owned(),
        },
        _ => "other".to_owned(),
    }
}

fn start(store: MemoryStore) -> Bench {
    start_with(store, |_| {}, None)
}

/// `gate` is called with each input before it is decided.
fn start_with(store: MemoryStore, gate: impl Fn(&Input) + Send + 'static, clock: Option<Box<dyn Clock>>) -> Bench {
    let (switches, seen) = (Arc::new(Switches::default()), Arc::new(Mutex::new(Vec::new())));
    let (sender, effects) = mpsc::channel();
    let list = seen.clone();
    let engine: Engine = Box::new(move |_, _, now, input| {
        list.lock().unwrap().push(describe(&input));
        gate(&input);
        play(&input, now)
    });
    let sink: Box<dyn Effects> = Box::new(move |effect| drop(sender.send(effect)));
    let mut options = Options::new(Box::new(Switched(store, switches.clone())), sink, "test");
    options.engine = engine;
    if let Some(clock) = clock {
        options.clock = clock;
    }
    Bench { decider: Decider::start(options).unwrap(), switches, effects, seen }
}

fn samples() -> Input {
    Input::Samples { host: "planthost1".parse().unwrap(), samples: vec![] }
}

async fn ask(handle: &Handle, text: &str) -> Result<Reply, Failed> {
    handle.request(Actor::Person("mira".to_owned()), note(text)).await
}

/// Stops the engine at the first `Connected`-less input named `stop`, and goes on when told.
fn gate() -> (impl Fn(&Input) + Send + 'static, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (reached, at_gate) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let stop = move |input: &Input| {
        if matches!(input, Input::Disconnected { host } if host.as_str() == "stop") {
            reached.send(()).unwrap();
            gone.recv().unwrap();
        }
    };
    (stop, at_gate, go)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_with_a_lease_and_tells_the_engine_first() {
    let bench = start(MemoryStore::new());
    ask(&bench.handle(), "x").await.unwrap();
    assert_eq!(bench.seen()[0], "started false");
    let records = bench.handle().records(1, 10).await.unwrap();
    assert_eq!(records.iter().map(|record| record.kind.as_str()).collect::<Vec<_>>(), ["leaseTaken", "released"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_the_engine_is_told_so() {
    let mut store = MemoryStore::new();
    let fence = store.lease("restore", at(0)).unwrap();
    commit(&mut store, fence, vec![change(RESTORED, 1, vec![])]).unwrap();
    let bench = start(store);
    ask(&bench.handle(), "x").await.unwrap();
    assert_eq!(bench.seen()[0], "started true");
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_without_a_change_cost_no_commit() {
    let bench = start(MemoryStore::new());
    for _ in 0..100 {
        bench.handle().input_durable(samples()).await.unwrap();
    }
    assert_eq!(bench.commits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_come_after_the_commit_and_not_without_it() {
    let bench = start(MemoryStore::new());
    let handle = bench.handle();
    handle.input_durable(disconnected("one")).await.unwrap();
    assert_eq!(bench.effects.recv().unwrap(), release("one"));
    assert_eq!(handle.head().sequence, 2);
    bench.switches.refuse.store(true, Ordering::SeqCst);
    let lost = handle.input_durable(disconnected("two")).await;
    assert!(lost.unwrap_err().to_string().contains("no space left"));
    assert!(matches!(ask(&handle, "x").await, Err(Failed::Unavailable(_))));
    assert_eq!(handle.head().sequence, 2);
    bench.switches.refuse.store(false, Ordering::SeqCst);
    handle.input_durable(disconnected("three")).await.unwrap();
    assert_eq!(bench.effects.recv().unwrap(), release("three"), "the refused one has no effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_committed_together_and_people_come_first() {
    let (stop, at_gate, go) = gate();
    let bench = start_with(MemoryStore::new(), stop, None);
    let handle = bench.handle();
    handle.input(disconnected("stop")).await.unwrap();
    at_gate.recv().unwrap();
    for _ in 0..50 {
        handle.input(samples()).await.unwrap();
    }
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { ask(&handle, "cancel").await }
    });
    while handle.waiting().0 == 0 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    waiting.await.unwrap().unwrap();
    handle.input_durable(samples()).await.unwrap();
    let seen = bench.seen();
    let place = |wanted: &str| seen.iter().position(|input| input == wanted).unwrap();
    assert!(place("release None cancel") < place("samples"), "{seen:?}");
    assert!(bench.commits() <= 2, "{} commits", bench.commits());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_an_answer() {
    let bench = start(MemoryStore::new());
    let refused = ask(&bench.handle(), "refuse").await;
    assert_eq!(refused, Err(Failed::Refused(Refusal::Conflict("no".to_owned()))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_failed_ends_it_with_the_reason() {
    let bench = start(MemoryStore::new());
    let handle = bench.handle();
    bench.switches.fail.store(true, Ordering::SeqCst);
    let failed = ask(&handle, "x").await.unwrap_err();
    assert!(failed.to_string().contains("the disk is gone"), "{failed}");
    let ended = handle.ended().await.unwrap_err();
    assert!(ended.to_string().contains("the disk is gone"), "{ended}");
    assert!(ask(&handle, "x").await.unwrap_err().to_string().contains("the disk is gone"));
    assert!(bench.decider.join().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_deciding_ends_it_and_is_told() {
    let bench = start(MemoryStore::new());
    let handle = bench.handle();
    assert!(ask(&handle, "panic").await.is_err());
    assert!(handle.ended().await.unwrap_err().to_string().contains("asked to"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_decides_what_was_handed_over_before() {
    let bench = start(MemoryStore::new());
    let handle = bench.handle();
    for _ in 0..20 {
        handle.input(disconnected("one")).await.unwrap();
    }
    handle.stop().await;
    handle.ended().await.unwrap();
    assert_eq!(handle.head().sequence, 21);
    assert!(handle.input(samples()).await.is_err());
    bench.decider.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_wakes_when_the_engine_asked_it_to() {
    let (ticked, ticks) = oneshot::channel();
    let ticked = Mutex::new(Some(ticked));
    let began = std::time::Instant::now();
    let tick = move |input: &Input| {
        if matches!(input, Input::Tick)
            && began.elapsed() >= Duration::from_millis(30)
            && let Some(ticked) = ticked.lock().unwrap().take()
        {
            ticked.send(began.elapsed()).unwrap();
        }
    };
    let bench = start_with(MemoryStore::new(), tick, None);
    ask(&bench.handle(), "wake").await.unwrap();
    let after = ticks.await.unwrap();
    assert!(after < Duration::from_secs(5), "{after:?}: the longest sleep is ten seconds");
}

#[derive(Clone)]
struct Fake(Arc<Mutex<Timestamp>>);

impl Clock for Fake {
    fn wall(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_the_clock_is_told_and_time_never_goes_back() {
    let clock = Fake(Arc::new(Mutex::new(at(1_000))));
    let bench = start_with(MemoryStore::new(), |_| {}, Some(Box::new(clock.clone())));
    let handle = bench.handle();
    *clock.0.lock().unwrap() = at(1_100);
    handle.input_durable(disconnected("one")).await.unwrap();
    assert!(bench.seen().contains(&"jumped 100".to_owned()), "{:?}", bench.seen());
    *clock.0.lock().unwrap() = at(500);
    handle.input_durable(disconnected("one")).await.unwrap();
    assert!(bench.seen().contains(&"jumped -600".to_owned()), "{:?}", bench.seen());
    assert_eq!(handle.now(), at(1_100));
    let records = handle.records(2, 2).await.unwrap();
    assert_eq!((records[0].time, records[1].time), (at(1_100), at(1_100)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_freezes_everything_until_there_is_room() {
    let bench = start(MemoryStore::new());
    let handle = bench.handle();
    let until = async |wanted: &str| {
        while !bench.seen().contains(&wanted.to_owned()) {
            handle.input_durable(samples()).await.unwrap();
        }
    };
    bench.switches.is_full.store(true, Ordering::SeqCst);
    until("hold All").await;
    assert!(handle.is_full());
    bench.switches.is_full.store(false, Ordering::SeqCst);
    until("release Some(win-7) there is room on the disk again").await;
    assert!(!handle.is_full());
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_see_the_state_and_change_nothing() {
    let bench = start(MemoryStore::new());
    let hosts = bench.handle().ask(|_, state, _| state.hosts.len()).await.unwrap();
    assert_eq!(hosts, 0);
    assert_eq!(bench.commits(), 0);
}

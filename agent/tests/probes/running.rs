//! Assignments: who runs, who goes on, who stops, who is asked.

use std::{fs, path::Path, sync::Arc, time::Duration};

use quell_agent::probes::{
    Context, Sample,
    runner::{Assignment, Runner, SAMPLES},
};
use quell_model::probe::ProbeSpec;
use tokio::sync::mpsc;

use crate::world::{ALLOW, PATIENT, context};

const RARELY: Duration = Duration::from_secs(3600);

fn file(key: &str, path: &Path, every: Duration) -> Assignment {
    let spec = Ok(ProbeSpec::File { path: path.to_owned(), parse: None });
    Assignment { key: key.into(), every, timeout: PATIENT, spec }
}

struct Bench {
    dir: tempfile::TempDir,
    runner: Runner,
    samples: mpsc::Receiver<Sample>,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let context: Context = context(ALLOW, dir.path()).await;
        let (sender, samples) = mpsc::channel(SAMPLES);
        Self { dir, runner: Runner::new(context, sender), samples }
    }

    async fn next(&mut self) -> Sample {
        tokio::time::timeout(PATIENT, self.samples.recv()).await.expect("no sample came").unwrap()
    }
}

#[tokio::test]
async fn an_unchanged_key_goes_on_and_a_missing_one_stops() {
    let mut bench = Bench::new().await;
    let path = bench.dir.path().join("value");
    fs::write(&path, "1").unwrap();
    bench.runner.assign(vec![file("a", &path, RARELY), file("b", &path, RARELY)]);
    let first = [bench.next().await, bench.next().await];
    assert!(first.iter().all(|sample| sample.fields["successes"] == 1.0.into() && !sample.pushed && sample.urgent));
    bench.runner.assign(vec![file("a", &path, RARELY)]);
    assert_eq!(bench.runner.count(), 1);
    bench.runner.look_now(&["a".to_owned(), "b".to_owned(), "unknown".to_owned()]);
    let again = bench.next().await;
    // Its streak went on: it was not started anew.
    assert_eq!((&*again.key, &again.fields["successes"], again.urgent), ("a", &2.0.into(), true));
    bench.runner.assign(Vec::new());
    assert_eq!(bench.runner.count(), 0);
    bench.runner.look_now(&["a".to_owned()]);
    assert!(tokio::time::timeout(Duration::from_millis(50), bench.samples.recv()).await.is_err());
}

#[tokio::test]
async fn a_change_is_pushed_and_what_always_changes_is_not() {
    let mut bench = Bench::new().await;
    let path = bench.dir.path().join("value");
    fs::write(&path, "1").unwrap();
    bench.runner.assign(vec![file("a", &path, RARELY)]);
    bench.next().await;
    // The same content again: only the file's age differs.
    fs::write(bench.dir.path().join("new"), "1").unwrap();
    fs::rename(bench.dir.path().join("new"), &path).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(600), bench.samples.recv()).await.is_err());
    fs::write(bench.dir.path().join("new"), "2").unwrap();
    fs::rename(bench.dir.path().join("new"), &path).unwrap();
    let pushed = bench.next().await;
    assert!(pushed.pushed && pushed.urgent);
    assert_eq!((&pushed.fields["value"], &pushed.fields["successes"]), (&"2".into(), &2.0.into()));
}

#[tokio::test]
async fn the_interval_is_kept() {
    let mut bench = Bench::new().await;
    let path = bench.dir.path().join("value");
    fs::write(&path, "1").unwrap();
    bench.runner.assign(vec![file("a", &path, Duration::from_millis(100))]);
    let first = bench.next().await.taken;
    for _ in 0..5 {
        bench.next().await;
    }
    let spent = first.elapsed();
    assert!(spent >= Duration::from_millis(400), "{spent:?}");
}

#[tokio::test]
async fn what_is_not_understood_or_suspended_says_so_and_has_no_verdict() {
    let mut bench = Bench::new().await;
    let path = bench.dir.path().join("value");
    fs::write(&path, "1").unwrap();
    let unknown =
        Assignment { key: "x".into(), every: RARELY, timeout: PATIENT, spec: Err("of a later version".to_owned()) };
    bench.runner.assign(vec![unknown]);
    let sample = bench.next().await;
    assert_eq!(sample.fields["error"], "of a later version".into());
    assert!(!sample.fields.contains_key("ok"));

    bench.runner.assign(vec![file("a", &path, RARELY)]);
    bench.next().await;
    assert_eq!(bench.runner.suspend_costliest("suspended: a test"), Some(Arc::from("a")));
    let sample = bench.next().await;
    assert!(!sample.fields.contains_key("ok") && sample.urgent);
    assert_eq!(bench.runner.suspended(), ["a"]);
    assert_eq!(bench.runner.suspend_costliest("again"), None);
    // Taken off the list and put on it again, it runs.
    bench.runner.assign(Vec::new());
    bench.runner.assign(vec![file("a", &path, RARELY)]);
    assert!(bench.next().await.fields.contains_key("ok"));
    assert!(bench.runner.suspended().is_empty());
}

#[tokio::test]
async fn the_tail_of_an_assigned_log_is_given() {
    let mut bench = Bench::new().await;
    let path = bench.dir.path().join("app.log");
    fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let spec = ProbeSpec::LogMatch { path: path.clone(), pattern: "two".to_owned(), before: None, window: 9 };
    bench.runner.assign(vec![
        Assignment { key: "log".into(), every: RARELY, timeout: PATIENT, spec: Ok(spec) },
        file("file", &path, RARELY),
    ]);
    bench.next().await;
    assert_eq!(bench.runner.tail("log", 2).await.unwrap().unwrap(), ["two", "three"]);
    assert!(bench.runner.tail("file", 2).await.unwrap().is_err());
    assert!(bench.runner.tail("nothing", 2).await.unwrap().unwrap_err().contains("no probe"));
}

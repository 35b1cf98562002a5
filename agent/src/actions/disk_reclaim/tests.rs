//! Deleting on a real file system, through the whole way of an order, and step by step; and attacks on it.
//!
//! Only root sees who has a file open, so with another user's rights each of these tests ends where that is refused.

use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use quell_model::action::{DiskReclaim, Parameters};
use quell_wire::v1::{self, OutcomeKind};
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use super::{Prepared, Reclaim, delete::aside};
use crate::{
    actions::{self, Action as _, Change, Failure, Standing, Work, tests::exchanges},
    config::Config,
    execute::tests::{Agent, command, seed},
    legal_hold::{self, LegalHoldFile},
    managers::Managers,
};

/// Writes a file that was last changed this many days ago.
pub(in crate::actions) fn aged(path: &Path, days: u64) {
    std::fs::write(path, format!("{} of {days} days\n", path.display())).unwrap();
    make_old(path, days);
}

fn make_old(path: &Path, days: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
}

struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    /// Absent where deleting is refused because this user cannot see who has a file open.
    async fn new() -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        for name in ["data", "logs", "safe"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let bench = Self { root };
        if rustix::process::geteuid().is_root() {
            return Some(bench);
        }
        aged(&bench.log("old.log"), 9);
        let preview = bench.agent().await.preview(bench.order("a")).await;
        assert!(preview.refusal.contains("has to run as root"), "{preview:?}");
        None
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path("logs").join(name)
    }

    fn toml(&self) -> String {
        format!("[allow]\nactions = [\"disk.reclaim\"]\nreclaim = [{:?}]\n", self.path("logs").display().to_string())
    }

    async fn agent(&self) -> Agent {
        Agent::start(&self.path("data"), &self.toml()).await
    }

    fn with(&self) -> Json {
        json!({"directory": self.path("logs").display().to_string(), "names": ["*.log"], "olderThan": "1d"})
    }

    fn order(&self, key: &str) -> v1::Command {
        command(key, "disk.reclaim", &self.with())
    }

    fn action(&self) -> Reclaim {
        let Ok(Parameters::DiskReclaim(reclaim)) = Parameters::parse("disk.reclaim", self.with().as_object().unwrap())
        else {
            panic!()
        };
        Reclaim(DiskReclaim { ..reclaim })
    }

    async fn host(&self) -> actions::Host {
        let config = Arc::new(Config::parse(&self.toml(), Path::new("agent.toml")).unwrap());
        let managers = Arc::new(Managers::open(&config, &self.path("data")).await.unwrap());
        actions::Host { config, managers, legal_holds: LegalHoldFile::new(&self.path("data")) }
    }

    fn hold(&self, text: &str) {
        let path = self.path("data").join(legal_hold::FILE_NAME);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn hold_logs(&self, name: &str) {
        self.hold(&format!(
            "[[legal-hold]]\npath = {:?}\nreason = \"case 17\"\n",
            self.log(name).display().to_string()
        ));
    }

    /// Makes the list, lets something happen, and deletes what is listed.
    async fn after(&self, happens: impl FnOnce()) -> Result<Change, Failure> {
        let (host, action) = (self.host().await, self.action());
        let prepared = prepare(&action, &host).await;
        happens();
        apply(&action, &host, &prepared, CancellationToken::new()).await
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("logs")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

async fn prepare(action: &Reclaim, host: &actions::Host) -> Json {
    let checked = action.check(host).await.unwrap();
    action.prepare(host, &checked).await.unwrap()
}

async fn apply(
    action: &Reclaim,
    host: &actions::Host,
    prepared: &Json,
    cancel: CancellationToken,
) -> Result<Change, Failure> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    action.apply(&Work { host, deadline, cancel, resumed: false }, prepared).await
}

fn number(outcome: &v1::Outcome, name: &str) -> f64 {
    let field = outcome.values.iter().find(|field| field.name == name).expect(name);
    let Some(v1::field::Value::Number(number)) = field.value else { panic!("{name} is no number") };
    number
}

#[tokio::test]
async fn exactly_what_was_listed_goes() {
    let Some(bench) = Bench::new().await else { return };
    let far = bench.path("safe/canary");
    std::fs::write(&far, "precious").unwrap();
    for (name, days) in [("b.log", 5), ("a.log", 9), ("young.log", 0), ("notes.txt", 9), (".hidden.log", 9)] {
        aged(&bench.log(name), days);
    }
    symlink(&far, bench.log("link.log")).unwrap();
    std::fs::hard_link(&far, bench.log("twin.log")).unwrap();
    make_old(&far, 9);
    std::fs::create_dir(bench.log("directory.log")).unwrap();
    aged(&bench.log("directory.log/deep.log"), 9);
    nix::unistd::mkfifo(&bench.log("fifo.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let size = std::fs::metadata(bench.log("a.log")).unwrap().len();
    let disk = |name| std::fs::metadata(bench.log(name)).unwrap().blocks() * 512;
    let disk = disk("a.log") + disk("b.log");

    let mut agent = bench.agent().await;
    let listed = agent.preview(bench.order("a")).await;
    let objects: Vec<_> = listed.items.iter().map(|item| PathBuf::from(&item.object)).collect();
    assert_eq!(objects, [bench.log("a.log"), bench.log("b.log")], "oldest first");
    assert_eq!((listed.items[0].verb.as_str(), listed.items[0].size_bytes), ("delete", size));
    assert!(listed.items[0].detail.starts_with("last changed 20"), "{:?}", listed.items[0]);
    assert_eq!(agent.preview(bench.order("a")).await, listed, "it stays the same for as long as the files do");

    let outcome = agent.run_listed(bench.order("a"), &listed).await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    assert_eq!((number(&outcome, "files_deleted"), number(&outcome, "files_kept")), (2.0, 0.0));
    assert!((number(&outcome, "bytes_freed") - disk as f64).abs() < 0.5, "{disk}: {}", outcome.summary);
    let left = [".hidden.log", "directory.log", "fifo.log", "link.log", "notes.txt", "twin.log", "young.log"];
    assert_eq!(bench.names(), left);
    assert_eq!(std::fs::read_to_string(far).unwrap(), "precious");
    assert!(bench.log("directory.log/deep.log").exists());
}

#[tokio::test]
async fn without_a_list_in_its_plan_nothing_is_deleted() {
    let Some(bench) = Bench::new().await else { return };
    aged(&bench.log("old.log"), 9);
    std::fs::create_dir(bench.log("directory.log")).unwrap();
    let mut agent = bench.agent().await;
    let dry = agent.run(v1::Command { dry_run: true, ..bench.order("dry") }).await;
    assert_eq!(dry.kind(), OutcomeKind::Succeeded, "{}", dry.summary);
    assert!(dry.summary.contains("would delete") && dry.summary.contains("old.log"), "{}", dry.summary);
    assert!(dry.summary.contains("; kept: directory.log ("), "{}", dry.summary);
    let outcome = agent.run(bench.order("a")).await;
    assert_eq!(outcome.kind(), OutcomeKind::Refused);
    assert!(outcome.summary.contains("ask for the preview first"), "{}", outcome.summary);
    assert_eq!(bench.names(), ["directory.log", "old.log"]);
}

#[tokio::test]
async fn a_list_that_moved_is_refused_whole() {
    let Some(bench) = Bench::new().await else { return };
    for name in ["a.log", "b.log"] {
        aged(&bench.log(name), 9);
    }
    let mut agent = bench.agent().await;
    type Move<'a> = Box<dyn Fn() + 'a>;
    let moves: [(&str, Move<'_>); 4] = [
        ("another file", Box::new(|| aged(&bench.log("c.log"), 9))),
        ("a change", Box::new(|| aged(&bench.log("a.log"), 8))),
        ("a file less", Box::new(|| std::fs::remove_file(bench.log("c.log")).unwrap())),
        ("a hold", Box::new(|| bench.hold_logs("b.log"))),
    ];
    for (what, happens) in &moves {
        let listed = agent.preview(bench.order("list")).await;
        happens();
        let before = bench.names();
        let outcome = agent.run_listed(bench.order(what), &listed).await;
        assert_eq!(outcome.kind(), OutcomeKind::Refused, "{what}: {}", outcome.summary);
        assert!(outcome.moved && outcome.summary.contains("nothing was done"), "{what}: {}", outcome.summary);
        assert_eq!(bench.names(), before, "{what}");
    }
}

#[tokio::test]
async fn what_is_open_or_held_is_not_listed_and_said() {
    let Some(bench) = Bench::new().await else { return };
    aged(&bench.log("open.log"), 9);
    aged(&bench.log("shut.log"), 9);
    let open = std::fs::File::open(bench.log("open.log")).unwrap();
    let (host, action) = (bench.host().await, bench.action());
    let preview = action.check(&host).await.unwrap();
    assert_eq!(preview.items.len(), 1, "{preview:?}");
    let pid = std::process::id();
    assert_eq!(preview.note, format!("kept: open.log (process {pid} has it open)"));
    drop(open);
    assert_eq!(action.check(&host).await.unwrap().items.len(), 2);
    bench.hold_logs("o*");
    let preview = action.check(&host).await.unwrap();
    assert_eq!(preview.items.len(), 1, "{preview:?}");
    assert_eq!(preview.note, "kept: open.log (a legal hold keeps it: case 17)");
}

#[tokio::test]
async fn what_no_longer_matches_when_its_turn_comes_is_left_and_told() {
    type Happen = fn(&Bench) -> Option<std::fs::File>;
    let cases: [(&str, &str, Happen); 7] = [
        ("opened", "has it open", |bench| Some(std::fs::File::open(bench.log("b.log")).unwrap())),
        ("held", "a legal hold keeps it: case 17", |bench| {
            bench.hold_logs("b.*");
            None
        }),
        ("written to", "was changed", |bench| {
            std::fs::write(bench.log("b.log"), "news").unwrap();
            None
        }),
        ("touched", "was changed", |bench| {
            make_old(&bench.log("b.log"), 8);
            None
        }),
        ("exchanged", "not the file of the list", |bench| {
            let (size, modified) = (std::fs::read(bench.log("b.log")).unwrap(), bench.log("b.log").metadata().unwrap());
            std::fs::rename(bench.log("b.log"), bench.path("safe/b.log")).unwrap();
            std::fs::write(bench.log("b.log"), size).unwrap();
            let file = std::fs::File::options().write(true).open(bench.log("b.log")).unwrap();
            file.set_modified(modified.modified().unwrap()).unwrap();
            None
        }),
        ("a link", "not the file of the list", |bench| {
            std::fs::rename(bench.log("b.log"), bench.path("safe/b.log")).unwrap();
            symlink(bench.path("safe/b.log"), bench.log("b.log")).unwrap();
            None
        }),
        ("named twice", "not the file of the list", |bench| {
            std::fs::hard_link(bench.log("b.log"), bench.path("safe/b.log")).unwrap();
            None
        }),
    ];
    for (what, why, happens) in cases {
        let Some(bench) = Bench::new().await else { return };
        for name in ["a.log", "b.log", "c.log"] {
            aged(&bench.log(name), 9);
        }
        let mut held = None;
        let change = bench.after(|| held = happens(&bench)).await.unwrap();
        assert_eq!(bench.names(), ["b.log"], "{what}: {}", change.summary);
        assert!(
            change.summary.contains(why) && change.summary.starts_with("2 of 3 listed"),
            "{what}: {}",
            change.summary
        );
        assert_eq!(change.values["files_kept"], quell_model::value::Value::Number(1.0), "{what}");
    }
}

#[tokio::test]
async fn holds_that_cannot_be_understood_hold_everything() {
    let Some(bench) = Bench::new().await else { return };
    aged(&bench.log("old.log"), 9);
    let failure = bench.after(|| bench.hold("[[legal-hold]]\n")).await.unwrap_err();
    assert!(failure.reason.contains("nothing is deleted"), "{failure}");
    assert_eq!(bench.names(), ["old.log"]);
    let preview = bench.agent().await.preview(bench.order("a")).await;
    assert!(preview.items.is_empty() && preview.refusal.contains("legal-holds.toml:1:"), "{preview:?}");
}

#[tokio::test]
async fn what_is_called_off_ends_and_says_what_was_done() {
    let Some(bench) = Bench::new().await else { return };
    aged(&bench.log("old.log"), 9);
    let (host, action) = (bench.host().await, bench.action());
    let prepared = prepare(&action, &host).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let failure = apply(&action, &host, &prepared, cancel).await.unwrap_err();
    assert!(failure.reason.contains("called off") && failure.reason.contains("0 of 1"), "{failure}");
    assert_eq!(bench.names(), ["old.log"]);
}

#[tokio::test]
async fn a_deleted_file_that_somebody_has_open_is_not_verified_as_freed() {
    let Some(bench) = Bench::new().await else { return };
    aged(&bench.log("old.log"), 9);
    let (host, action) = (bench.host().await, bench.action());
    let prepared = prepare(&action, &host).await;
    let open = std::fs::File::open(bench.log("old.log")).unwrap();
    std::fs::remove_file(bench.log("old.log")).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let work = Work { host: &host, deadline, cancel: CancellationToken::new(), resumed: false };
    let failure = action.verify(&work, &prepared).await.unwrap_err();
    assert!(failure.reason.contains("bytes are not free"), "{failure}");
    drop(open);
    action.verify(&work, &prepared).await.unwrap();
    assert_eq!(action.undo(&work, &prepared).await, Ok(None), "and nothing brings it back");
}

#[tokio::test]
async fn a_directory_that_others_may_write_to_is_refused() {
    let Some(bench) = Bench::new().await else { return };
    aged(&bench.log("old.log"), 9);
    std::fs::set_permissions(bench.path("logs"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let preview = bench.agent().await.preview(bench.order("a")).await;
    assert!(preview.refusal.contains("chmod go-w"), "{preview:?}");
    std::fs::set_permissions(bench.path("logs"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(bench.path("logs"), bench.path("real")).unwrap();
    symlink(bench.path("real"), bench.path("logs")).unwrap();
    let refused = bench.action().check(&bench.host().await).await.unwrap_err();
    assert!(refused.reason.contains("symbolic link"), "{refused}");
}

/// An agent died after its intent, with one file deleted, one moved aside and one untouched.
async fn interrupted(bench: &Bench, order: &v1::Command) {
    for name in ["a.log", "b.log", "c.log"] {
        aged(&bench.log(name), 9);
    }
    let (host, action) = (bench.host().await, bench.action());
    let prepared = prepare(&action, &host).await;
    seed(&bench.path("data"), order, &prepared).await;
    let files = Prepared::from(&prepared).unwrap().files;
    std::fs::remove_file(bench.log("a.log")).unwrap();
    std::fs::rename(bench.log("b.log"), bench.log(aside(&files[1]).to_str().unwrap())).unwrap();
    assert!(matches!(action.look(&host, &prepared).await, Standing::Begun(_)));
}

#[tokio::test]
async fn killed_in_the_middle_it_goes_on_with_the_same_list() {
    let Some(bench) = Bench::new().await else { return };
    interrupted(&bench, &bench.order("a")).await;
    aged(&bench.log("late.log"), 9);
    let outcome = bench.agent().await.outcome("cmd-a").await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    assert_eq!(number(&outcome, "files_deleted"), 3.0, "{}", outcome.summary);
    assert_eq!(bench.names(), ["late.log"], "which is on no list");
}

#[tokio::test]
async fn killed_in_the_middle_and_back_too_late_it_says_how_far_it_came() {
    let Some(bench) = Bench::new().await else { return };
    interrupted(&bench, &v1::Command { timeout_ms: 1, ..bench.order("a") }).await;
    let outcome = bench.agent().await.outcome("cmd-a").await;
    assert_eq!(outcome.kind(), OutcomeKind::Failed, "{}", outcome.summary);
    assert!(outcome.summary.starts_with("interrupted: 1 of 3 listed files"), "{}", outcome.summary);
    assert!(outcome.summary.contains("time was over"), "{}", outcome.summary);
    assert_eq!(bench.names().len(), 2);
}

/// A program renames files in the same moment: what is not on the list is never deleted, whatever name it gets.
#[tokio::test]
async fn a_program_that_renames_meanwhile_never_loses_what_was_not_listed() {
    let Some(bench) = Bench::new().await else { return };
    let (old, precious) = (bench.log("old.log"), bench.log("precious.log"));
    std::fs::write(&precious, "never listed").unwrap();
    let inode = std::fs::metadata(&precious).unwrap().ino();
    let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let swapper = {
        let (stop, swaps, old, precious) = (Arc::clone(&stop), Arc::clone(&swaps), old.clone(), precious.clone());
        std::thread::spawn(move || {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(Ordering::Relaxed) {
                if renameat_with(CWD, &old, CWD, &precious, RenameFlags::EXCHANGE).is_ok() {
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let there = || [&old, &precious].iter().any(|path| path.metadata().is_ok_and(|it| it.ino() == inode));
    let (host, action) = (bench.host().await, bench.action());
    let begun = Instant::now();
    let (mut rounds, mut deleted) = (0, 0);
    while begun.elapsed() < Duration::from_secs(3) || deleted < 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{rounds} rounds, {deleted} deleted");
        // While one name is free, nothing is exchanged.
        if !old.exists() || !precious.exists() {
            aged(&bench.path("safe/new"), 9);
            std::fs::rename(bench.path("safe/new"), if precious.exists() { &old } else { &precious }).unwrap();
        }
        let Ok(checked) = action.check(&host).await else { continue };
        let Ok(prepared) = action.prepare(&host, &checked).await else { continue };
        rounds += 1;
        if let Ok(change) = apply(&action, &host, &prepared, CancellationToken::new()).await {
            deleted += u32::from(change.summary.starts_with("1 of"));
        }
        // A look in the moment of an exchange may miss it; a hundred do not.
        assert!((0..100).any(|_| there()), "what was never listed is gone");
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    println!("{rounds} rounds, {deleted} deleted, {} exchanges", swaps.load(Ordering::Relaxed));
    assert!(swaps.load(Ordering::Relaxed) > 1_000);
    assert!(there());
}

/// Somebody who owns the directory exchanges the listed file for a link, another name of a file elsewhere, a fifo and a
/// directory, as fast as he can. Nothing elsewhere is touched.
#[tokio::test]
async fn exchanging_the_listed_file_gains_nothing() {
    let Some(bench) = Bench::new().await else { return };
    let canary = bench.path("safe/canary.log");
    aged(&canary, 9);
    let (before, text) = (std::fs::metadata(&canary).unwrap(), std::fs::read(&canary).unwrap());
    std::os::unix::fs::chown(bench.path("logs"), Some(65_534), Some(65_534)).unwrap();
    let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let attacker = {
        let (stop, swaps, log, canary) = (Arc::clone(&stop), Arc::clone(&swaps), bench.log("old.log"), canary.clone());
        std::thread::spawn(move || attack(&log, &canary, &stop, &swaps))
    };
    let (host, action) = (bench.host().await, bench.action());
    let begun = Instant::now();
    let (mut deleted, (wanted, patience)) = (0, exchanges(2_000));
    while begun.elapsed() < Duration::from_secs(3) || swaps.load(Ordering::Relaxed) < wanted || deleted == 0 {
        assert!(begun.elapsed() < patience, "{deleted} deleted");
        let Ok(checked) = action.check(&host).await else { continue };
        let Ok(prepared) = action.prepare(&host, &checked).await else { continue };
        if let Ok(change) = apply(&action, &host, &prepared, CancellationToken::new()).await {
            deleted += u32::from(change.summary.starts_with("1 of"));
        }
    }
    stop.store(true, Ordering::Relaxed);
    attacker.join().unwrap();
    println!("{deleted} deleted, {} exchanges", swaps.load(Ordering::Relaxed));
    let after = std::fs::metadata(&canary).unwrap();
    let facts = |it: &std::fs::Metadata| (it.ino(), it.uid(), it.mode(), it.mtime_nsec(), it.len());
    assert_eq!(facts(&before), facts(&after));
    assert_eq!(std::fs::read(&canary).unwrap(), text);
    assert_eq!(std::fs::read_dir(bench.path("safe")).unwrap().count(), 1);
}

fn attack(log: &Path, canary: &Path, stop: &AtomicBool, swaps: &AtomicU64) {
    rustix::thread::set_thread_groups(&[]).unwrap();
    nix::unistd::setfsgid(65_534.into());
    nix::unistd::setfsuid(65_534.into());
    let clear = || {
        std::thread::sleep(Duration::from_micros(60));
        let _any = std::fs::remove_file(log);
        let _any = std::fs::remove_dir(log);
        swaps.fetch_add(1, Ordering::Relaxed);
    };
    let old = SystemTime::now() - Duration::from_secs(9 * 86_400);
    while !stop.load(Ordering::Relaxed) {
        // What fails because a deletion was faster is tried again in the next round.
        if let Ok(file) = std::fs::File::create(log) {
            let _any = file.set_modified(old);
        }
        // Left alone for a while, so that some deletions get through.
        std::thread::sleep(Duration::from_millis(4));
        clear();
        let _any = symlink(canary, log);
        clear();
        let _any = std::fs::hard_link(canary, log);
        clear();
        let _any = nix::unistd::mkfifo(log, nix::sys::stat::Mode::S_IRWXU);
        clear();
        let _any = std::fs::create_dir(log);
        clear();
    }
}

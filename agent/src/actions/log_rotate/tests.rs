//! Rotation on a real file system, through the whole way of an order; and an attack on it.

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quell_wire::v1::{self, OutcomeKind};
use serde_json::json;

use crate::{
    actions::tests::exchanges,
    execute::tests::{Agent, command},
};

struct Host {
    root: tempfile::TempDir,
    agent: Agent,
}

fn toml(logs: &Path) -> String {
    format!(
        "[allow]\nactions = [\"log.rotate\"]\npaths = [{:?}]\nservices = [\"writer\"]\nprograms = [\"/bin/sh\"]\n\
         [[service]]\nname = \"writer\"\nmanager = \"command\"\nstart = [\"/bin/sh\", \"{}\"]\n",
        logs.display().to_string(),
        logs.join("writer.sh").display(),
    )
}

impl Host {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["data", "logs"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let agent = Agent::start(&root.path().join("data"), &toml(&root.path().join("logs"))).await;
        Self { root, agent }
    }

    fn logs(&self) -> PathBuf {
        self.root.path().join("logs")
    }

    fn log(&self) -> PathBuf {
        self.logs().join("app.log")
    }

    fn write(&self, text: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.log()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    async fn rotate(&mut self, key: &str, with: serde_json::Value) -> v1::Outcome {
        let order = order(&self.log(), key, with);
        self.agent.run(order).await
    }

    /// What the archives hold, oldest first, unpacked.
    fn archived(&self) -> Vec<String> {
        unpack_all(&self.logs())
    }
}

fn order(log: &Path, key: &str, mut with: serde_json::Value) -> v1::Command {
    with["path"] = json!(log.display().to_string());
    command(key, "log.rotate", &with)
}

fn archive_names(logs: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(logs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("app.log."))
        .collect();
    names.sort();
    names
}

fn unpack_all(logs: &Path) -> Vec<String> {
    archive_names(logs)
        .iter()
        .map(|path| {
            let file = std::fs::File::open(path).unwrap();
            let mut text = String::new();
            let read = match path.extension().unwrap().to_str().unwrap() {
                "gz" => flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text),
                "zst" => zstd::stream::read::Decoder::new(file).unwrap().read_to_string(&mut text),
                _ => { file }.read_to_string(&mut text),
            };
            read.unwrap();
            text
        })
        .collect()
}

fn number(outcome: &v1::Outcome, name: &str) -> f64 {
    let field = outcome.values.iter().find(|field| field.name == name).expect(name);
    let Some(v1::field::Value::Number(number)) = field.value else { panic!("{name} is no number") };
    number
}

fn long_text() -> String {
    (0..20_000).map(|line| format!("line {line} of an application that says much\n")).collect()
}

#[tokio::test]
async fn every_method_and_compression_keeps_every_line() {
    for method in ["rename", "copy"] {
        for compress in ["gzip", "zstd", "none"] {
            let mut host = Host::new().await;
            let text = long_text();
            host.write(&text);
            std::fs::set_permissions(host.log(), std::fs::Permissions::from_mode(0o640)).unwrap();
            let outcome = host.rotate("a", json!({"method": method, "compress": compress})).await;
            assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{method} {compress}: {}", outcome.summary);
            assert_eq!(host.archived(), [text.as_str()], "{method} {compress}");
            let log = std::fs::metadata(host.log()).unwrap();
            assert_eq!((log.len(), log.mode() & 0o777), (0, 0o640), "{method} {compress}");
            let archive = archive_names(&host.logs()).remove(0);
            assert_eq!(std::fs::metadata(archive).unwrap().mode() & 0o777, 0o640);
            if compress != "none" {
                assert!(number(&outcome, "bytes_freed") > 500_000.0, "{method} {compress}: {}", outcome.summary);
            }
            host.write("more\n");
            assert_eq!(
                host.rotate("b", json!({"minSize": "1MiB", "compress": compress})).await.kind(),
                OutcomeKind::NoChange
            );
        }
    }
}

#[tokio::test]
async fn a_name_of_somebodys_choice_is_rotated_like_any_other_and_touches_no_neighbour() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut host = Host::new().await;
    let neighbours = [&b"--remove"[..], b"\xff\xfe.log", b"app\n.log", b"*"].map(std::ffi::OsStr::from_bytes);
    for name in neighbours {
        std::fs::write(host.logs().join(name), "stays").unwrap();
    }
    for (index, name) in ["$(reboot);x.log", "-rf", "'\"`.log"].into_iter().enumerate() {
        let log = host.logs().join(name);
        std::fs::write(&log, "a line\n").unwrap();
        let outcome = host.agent.run(order(&log, &index.to_string(), json!({"keep": 1, "compress": "none"}))).await;
        assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{name:?}: {}", outcome.summary);
        assert_eq!(std::fs::read(&log).unwrap(), b"", "{name:?}");
        let names: Vec<_> = std::fs::read_dir(host.logs()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let archive = names.iter().find(|found| found.as_bytes().starts_with(format!("{name}.2").as_bytes()));
        let archive = archive.unwrap_or_else(|| panic!("{name:?} has no archive among {names:?}"));
        assert_eq!(std::fs::read(host.logs().join(archive)).unwrap(), b"a line\n", "{name:?}");
    }
    // Such a name would write to the terminal of whoever reads of it.
    let log = host.logs().join("a\u{1b}[2J\n.log");
    std::fs::write(&log, "a line\n").unwrap();
    let outcome = host.agent.run(order(&log, "control", json!({}))).await;
    assert_eq!((outcome.kind(), std::fs::read(&log).unwrap()), (OutcomeKind::Refused, b"a line\n".to_vec()));
    for name in neighbours {
        assert_eq!(std::fs::read(host.logs().join(name)).unwrap(), b"stays", "{name:?}");
    }
}

#[tokio::test]
async fn a_dry_run_names_what_would_be_done_and_leaves_it() {
    let mut host = Host::new().await;
    host.write("something\n");
    std::fs::write(host.logs().join("app.log.20200101T000000Z.gz"), "old").unwrap();
    let with = json!({"path": host.log().display().to_string(), "keep": 1.0});
    host.agent.submit(v1::Command { preview_only: true, ..command("p", "log.rotate", &with) }).await;
    let crate::execute::Report::Preview(preview) = host.agent.next().await else { panic!("a preview was wanted") };
    let verbs: Vec<&str> = preview.items.iter().map(|item| item.verb.as_str()).collect();
    assert_eq!(verbs, ["rotate", "delete"]);
    assert_eq!(preview.items[1].size_bytes, 3);
    assert_eq!(std::fs::read_to_string(host.log()).unwrap(), "something\n");
    assert_eq!(archive_names(&host.logs()).len(), 1);
}

#[tokio::test]
async fn only_archives_over_their_retention_are_removed() {
    let mut host = Host::new().await;
    let names = [
        "app.log.1",
        "app.log.20200101T000000Z.gz",
        "app.log.20200102T000000Z.zst",
        "app.log.old",
        "xapp.log.20200101T000000Z.gz",
    ];
    for name in names {
        std::fs::write(host.logs().join(name), "old").unwrap();
    }
    let far = host.root.path().join("far");
    std::fs::write(&far, "precious").unwrap();
    symlink(&far, host.logs().join("app.log.20190101T000000Z.gz")).unwrap();
    host.write("new\n");
    assert_eq!(host.rotate("a", json!({"compress": "none"})).await.kind(), OutcomeKind::Succeeded);
    assert_eq!(std::fs::read_dir(host.logs()).unwrap().count(), 8, "without keep and maxAge nothing is removed");
    host.write("newer\n");
    let outcome = host.rotate("b", json!({"compress": "none", "keep": 3.0, "maxAge": "30d"})).await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    assert_eq!(number(&outcome, "archives_removed"), 2.0);
    for kept in ["app.log.1", "app.log.old", "xapp.log.20200101T000000Z.gz"] {
        assert!(host.logs().join(kept).exists(), "{kept} is not an archive of ours");
    }
    assert_eq!(std::fs::read_to_string(far).unwrap(), "precious");
}

#[tokio::test]
async fn what_a_legal_hold_keeps_is_neither_removed_nor_compressed() {
    let mut host = Host::new().await;
    for name in ["app.log.20200101T000000Z", "app.log.20200102T000000Z", "app.log.20200103T000000Z.gz"] {
        std::fs::write(host.logs().join(name), "old").unwrap();
    }
    let held = host.logs().join("app.log.20200101*");
    let holds = host.root.path().join("data").join(crate::legal_hold::FILE_NAME);
    let hold = format!("[[legal-hold]]\npath = {:?}\nreason = \"case 17\"\n", held.display().to_string());
    std::fs::write(&holds, hold).unwrap();
    host.write("new\n");
    let outcome = host.rotate("a", json!({"keep": 1.0})).await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    assert!(
        outcome.summary.contains("20200101T000000Z is kept: a legal hold keeps it: case 17"),
        "{}",
        outcome.summary
    );
    let names = archive_names(&host.logs());
    assert_eq!(names.len(), 2, "the held one and the newest: {names:?}");
    assert_eq!(std::fs::read_to_string(host.logs().join("app.log.20200101T000000Z")).unwrap(), "old");

    std::fs::write(&holds, "[[legal-hold]]\n").unwrap();
    host.write("newer\n");
    let outcome = host.rotate("b", json!({"keep": 1.0})).await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    assert!(outcome.summary.contains("nothing is deleted"), "{}", outcome.summary);
    assert_eq!(archive_names(&host.logs()).len(), 3, "the log is set aside, and nothing goes");
}

#[tokio::test]
async fn what_somebody_has_open_is_not_compressed_before_it_is_closed() {
    let mut host = Host::new().await;
    host.write("first\n");
    let log = host.log().display().to_string();
    let script = format!("trap 'exec >>{log}' HUP; exec >>{log}; while :; do echo tick; sleep 0.05; done");
    std::fs::write(host.logs().join("writer.sh"), script).unwrap();
    let writer = host.agent.managers.find("writer").unwrap();
    writer.start(Duration::from_secs(5)).await.unwrap();
    let begun = Instant::now();
    while !std::fs::read_to_string(host.log()).unwrap().contains("tick") {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let untold = host.rotate("a", json!({})).await;
    assert_eq!(untold.kind(), OutcomeKind::Succeeded);
    assert!(untold.summary.contains("has it open"), "{}", untold.summary);
    let told = host.rotate("b", json!({"minSize": "0B", "after": {"signal": "HUP", "service": "writer"}})).await;
    assert_eq!(told.kind(), OutcomeKind::Succeeded, "{}", told.summary);
    assert!(!told.summary.contains("has it open"), "{}", told.summary);
    assert!(archive_names(&host.logs()).iter().all(|name| name.extension().unwrap() == "gz"));
    assert!(host.archived().iter().any(|text| text.starts_with("first\ntick\n")));
    writer.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_copied_log_that_is_written_to_loses_nothing_that_was_there() {
    let mut host = Host::new().await;
    host.write(&long_text());
    let stop = Arc::new(AtomicBool::new(false));
    let (path, asked) = (host.log(), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        let mut count = 0;
        while !asked.load(Ordering::Relaxed) {
            writeln!(file, "late {count}").unwrap();
            count += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        count
    });
    let outcome = host.rotate("a", json!({"method": "copy", "compress": "zstd"})).await;
    stop.store(true, Ordering::Relaxed);
    let count = writer.join().unwrap();
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    let everything = host.archived().concat() + &std::fs::read_to_string(host.log()).unwrap();
    let late = everything.lines().filter(|line| line.starts_with("late")).count();
    assert_eq!((late, everything.lines().count()), (count, 20_000 + count));
}

#[tokio::test]
async fn links_fifos_directories_and_strange_directories_are_refused() {
    let mut host = Host::new().await;
    let far = host.root.path().join("far");
    std::fs::write(&far, "precious").unwrap();
    let log = host.log();
    type Make<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, Make<'_>); 4] = [
        ("symbolic link", Box::new(|| symlink(&far, &log).unwrap())),
        ("2 names", Box::new(|| std::fs::hard_link(&far, &log).unwrap())),
        ("not a regular file", Box::new(|| std::fs::create_dir(&log).unwrap())),
        ("not a regular file", Box::new(|| nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap())),
    ];
    for (index, (reason, make)) in cases.iter().enumerate() {
        make();
        for method in ["rename", "copy"] {
            let key = format!("{index} {method}");
            let outcome = host.agent.run(order(&log, &key, json!({"method": method}))).await;
            assert_eq!(outcome.kind(), OutcomeKind::Refused);
            assert!(outcome.summary.contains(reason), "{} lacks {reason}", outcome.summary);
        }
        if log.is_dir() && !log.is_symlink() { std::fs::remove_dir(&log) } else { std::fs::remove_file(&log) }.unwrap();
    }
    std::fs::write(&log, "text\n").unwrap();
    let elsewhere = host.agent.run(order(&far, "elsewhere", json!({}))).await;
    assert!(elsewhere.remedy.starts_with("paths = ["), "{elsewhere:?}");
    symlink(host.logs(), host.logs().join("loop")).unwrap();
    let through = host.agent.run(order(&host.logs().join("loop/app.log"), "through", json!({}))).await;
    assert!(through.summary.contains("symbolic link"), "{}", through.summary);
    std::fs::set_permissions(host.logs(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let open = host.rotate("open", json!({})).await;
    assert!(open.kind() == OutcomeKind::Refused && open.summary.contains("chmod go-w"), "{}", open.summary);
    assert_eq!(std::fs::read_to_string(&far).unwrap(), "precious");
}

/// A log that is longer than what is free, most of it a hole.
#[tokio::test]
async fn a_copy_for_which_there_is_no_room_is_refused_before_anything_is_done() {
    let mut host = Host::new().await;
    host.write("the first line\n");
    let volume = rustix::fs::statvfs(host.root.path()).unwrap();
    let length = volume.f_bavail * volume.f_frsize + (1 << 30);
    std::fs::OpenOptions::new().write(true).open(host.log()).unwrap().set_len(length).unwrap();
    let outcome = host.rotate("a", json!({"method": "copy", "compress": "none"})).await;
    assert_eq!(outcome.kind(), OutcomeKind::Refused, "{}", outcome.summary);
    assert!(outcome.summary.contains("no space for the copy: about"), "{}", outcome.summary);
    assert!(outcome.summary.contains("nothing was lost. Free some space first"), "{}", outcome.summary);
    assert_eq!(std::fs::metadata(host.log()).unwrap().len(), length);
    assert_eq!(std::fs::read_dir(host.logs()).unwrap().count(), 1, "nothing half-written is left beside it");
    // What needs no copy is done.
    let outcome = host.rotate("b", json!({"method": "rename", "compress": "none"})).await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
}

/// Somebody who may write to the log's directory exchanges the log for a link, a fifo, a directory and a hard link to
/// a file elsewhere, as fast as he can, while rotations run. Nothing elsewhere may change or be copied out.
#[tokio::test]
async fn exchanging_the_log_while_it_is_rotated_gains_nothing() {
    let root = tempfile::tempdir().unwrap();
    for name in ["data", "logs", "safe"] {
        std::fs::create_dir(root.path().join(name)).unwrap();
    }
    let canary = root.path().join("safe/canary");
    std::fs::write(&canary, "THE SECRET\n").unwrap();
    std::fs::set_permissions(&canary, std::fs::Permissions::from_mode(0o600)).unwrap();
    // With root's rights at hand the directory is another user's, and so is the attacker.
    let other = rustix::process::geteuid().is_root().then_some(65_534);
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    if let Some(uid) = other {
        std::os::unix::fs::chown(root.path().join("logs"), Some(uid), Some(uid)).unwrap();
    }
    let before = std::fs::metadata(&canary).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swaps = Arc::new(AtomicU64::new(0));
    let attacker = {
        let (stop, swaps, logs, canary) =
            (Arc::clone(&stop), Arc::clone(&swaps), root.path().join("logs"), canary.clone());
        std::thread::spawn(move || attack(&logs, &canary, other, &stop, &swaps))
    };
    let mut agent = Agent::start(&root.path().join("data"), &toml(&root.path().join("logs"))).await;
    let begun = Instant::now();
    let (mut orders, mut succeeded, (wanted, patience)) = (0, 0, exchanges(8_000));
    while begun.elapsed() < Duration::from_secs(3) || swaps.load(Ordering::Relaxed) < wanted {
        assert!(begun.elapsed() < patience, "{} exchanges", swaps.load(Ordering::Relaxed));
        let method = if orders % 2 == 0 { "rename" } else { "copy" };
        let with = json!({"method": method, "keep": 200.0});
        let outcome = agent.run(order(&root.path().join("logs/app.log"), &orders.to_string(), with)).await;
        succeeded += u32::from(outcome.kind() == OutcomeKind::Succeeded);
        agent.handle.acknowledged(&orders.to_string()).await;
        orders += 1;
    }
    stop.store(true, Ordering::Relaxed);
    attacker.join().unwrap();
    println!("{orders} orders, {succeeded} succeeded, {} exchanges", swaps.load(Ordering::Relaxed));
    assert!(succeeded > 0, "the attacker must not have won by stopping every rotation either");
    let after = std::fs::metadata(&canary).unwrap();
    let facts = |metadata: &std::fs::Metadata| {
        (metadata.ino(), metadata.uid(), metadata.gid(), metadata.mode(), metadata.mtime_nsec())
    };
    assert_eq!(facts(&before), facts(&after), "the file elsewhere was changed");
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "THE SECRET\n");
    assert_eq!(std::fs::read_dir(root.path().join("safe")).unwrap().count(), 1);
    for path in archive_names(&root.path().join("logs")) {
        let metadata = path.symlink_metadata().unwrap();
        let ours = path.extension().is_some_and(|extension| extension == "gz");
        if ours && metadata.is_file() && metadata.ino() != before.ino() {
            let mut text = String::new();
            let file = std::fs::File::open(&path).unwrap();
            flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
            assert!(!text.contains("SECRET"), "{} tells the secret", path.display());
            assert_eq!(metadata.uid(), other.unwrap_or(before.uid()));
        }
    }
}

fn attack(logs: &Path, canary: &Path, other: Option<u32>, stop: &AtomicBool, swaps: &AtomicU64) {
    if let Some(uid) = other {
        rustix::thread::set_thread_groups(&[]).unwrap();
        nix::unistd::setfsgid(uid.into());
        nix::unistd::setfsuid(uid.into());
    }
    let log = logs.join("app.log");
    // Each state stays for a moment, so that every step of a rotation meets every one of them.
    let clear = || {
        std::thread::sleep(Duration::from_micros(60));
        let _any = std::fs::remove_file(&log);
        let _any = std::fs::remove_dir(&log);
    };
    while !stop.load(Ordering::Relaxed) {
        // What fails here because a rotation was faster is tried again in the next round.
        let _any = std::fs::write(&log, "an honest line\n");
        // Left alone now and then, so that some rotations get through.
        if swaps.fetch_add(5, Ordering::Relaxed).is_multiple_of(200) {
            std::thread::sleep(Duration::from_millis(4));
        }
        clear();
        let _any = symlink(canary, &log);
        clear();
        let _any = std::fs::hard_link(canary, &log);
        clear();
        let _any = nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU);
        clear();
        let _any = std::fs::create_dir(&log);
        clear();
    }
}

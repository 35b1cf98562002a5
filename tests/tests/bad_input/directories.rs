//! Data directories: of a newer version, in use, half-written, with files damaged or gone.
//!
//! Whatever is wrong with a file ends in one of two ways: an error that names it and the remedy, or a controller that
//! says what it made anew and has every record that it had.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use quell_tests::fleet::{Fleet, http_get, process::Process, wait_for};

use crate::call::{FAILED, INVALID, agent, calm, controller, host, programs, text};

const SOON: Duration = Duration::from_secs(30);

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// What can happen to a file.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Gone,
    Empty,
    Half,
    Flipped,
}

const HARM: [Harm; 4] = [Harm::Gone, Harm::Empty, Harm::Half, Harm::Flipped];

impl Harm {
    fn inflict(self, file: &Path) {
        let mut content = fs::read(file).unwrap();
        let middle = content.len() / 2;
        match self {
            Self::Gone => return fs::remove_file(file).unwrap(),
            Self::Empty => content.clear(),
            Self::Half => content.truncate(middle),
            Self::Flipped => content[middle] ^= 0xff,
        }
        fs::write(file, content).unwrap();
    }
}

/// Copies of a directory, one after another at the same place.
struct Copies {
    original: PathBuf,
    place: PathBuf,
}

impl Copies {
    fn fresh(&self) -> &Path {
        if self.place.exists() {
            fs::remove_dir_all(&self.place).unwrap();
        }
        copy(&self.original, &self.place);
        &self.place
    }
}

/// `serve` on a copy in which one file was harmed.
fn serve_refuses(copies: &Copies, file: &str, harms: &[Harm], code: i32, words: &[&str]) {
    for harm in harms {
        let directory = copies.fresh();
        harm.inflict(&directory.join(file));
        let ended = controller(["serve", "--data-dir", text(directory)]);
        let last = ended.err.lines().last().unwrap_or_default();
        assert_eq!(ended.code, Some(code), "{file} {harm:?}: {ended:#?}");
        let name = file.rsplit('/').next().unwrap();
        for word in words.iter().chain([&name, &"quell-controller: "]) {
            assert!(last.contains(word), "{file} {harm:?}, nothing of {word:?}: {ended:#?}");
        }
        calm(&ended.err);
    }
}

/// `serve` on such a copy runs, says so, and has every record.
fn serve_mends(copies: &Copies, file: &str, harm: Harm, fleet: &Fleet, records: &str, words: &[&str]) {
    let directory = copies.fresh();
    harm.inflict(&directory.join(file));
    let log = directory.with_extension("log");
    fs::write(&log, "").unwrap();
    let mut served = Process::start(&programs().controller, &["serve", "--data-dir", text(directory)], &log).unwrap();
    let said = || fs::read_to_string(&log).unwrap();
    let ready = || http_get(fleet.http_port(), "/readyz").ok().filter(|answer| answer.starts_with("HTTP/1.1 200"));
    wait_for(SOON, || format!("{file} {harm:?}: {}", said()), ready).unwrap();
    let after = fleet.quell(&["events", "-o", "json"]).unwrap();
    assert!(after.starts_with(records), "{file} {harm:?}: records were lost: {}", said());
    served.stop(SOON).unwrap();
    for word in words {
        assert!(said().contains(word), "{file} {harm:?}, nothing of {word:?}: {}", said());
    }
    calm(&said());
}

#[test]
fn a_controller_with_a_damaged_directory_says_so_or_mends_it() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
    for _ in 0..3 {
        fleet.quell(&["token", "create"]).unwrap();
    }
    let records = fleet.quell(&["events", "-o", "json"]).unwrap();
    fleet.kill_controller();
    let copies = Copies { original: fleet.controller_data(), place: scratch.path().join("copy") };

    let authority = ["the certificate authority cannot be used", "put the file back from a backup"];
    for file in ["authority/ca.key.pem", "authority/ca.pem"] {
        serve_refuses(&copies, file, &HARM, FAILED, &authority);
    }
    // Cut in half the identifier is one as well: it is the CA's certificate that gives it away.
    serve_refuses(&copies, "authority/installation", &HARM, FAILED, &authority);
    let segment = "log/00000000000000000001.log";
    serve_refuses(
        &copies,
        segment,
        &[Harm::Gone, Harm::Empty],
        FAILED,
        &["lost: the records from 1 on", "Restore the newest backup"],
    );
    serve_refuses(&copies, "controller.toml", &[Harm::Gone], INVALID, &["put it back from a backup", "listen ="]);
    let half = [Harm::Empty, Harm::Half, Harm::Flipped];
    serve_refuses(&copies, "controller.toml", &half, INVALID, &["correct the file and start again"]);

    let anew = ["made anew"];
    serve_mends(&copies, "format", Harm::Gone, &fleet, &records, &anew);
    serve_mends(&copies, "log/newest", Harm::Flipped, &fleet, &records, &anew);
    serve_mends(&copies, "view/conf", Harm::Half, &fleet, &records, &anew);
    serve_mends(&copies, "view/db", Harm::Gone, &fleet, &records, &[]);
    serve_mends(&copies, "reserve", Harm::Gone, &fleet, &records, &[]);

    let directory = copies.fresh();
    fs::write(directory.join("format"), "quell data format 99\n").unwrap();
    let format = directory.join("format");
    let newer = ["format 99", text(&format), "run the version that wrote it"];
    controller(["serve", "--data-dir", text(directory)]).says_no(FAILED, &newer);
    let copy = scratch.path().join("backup");
    controller(["backup", "--data-dir", text(directory), "--to", text(&copy)]).says_no(FAILED, &newer);
    assert_eq!(fs::read_to_string(directory.join("format")).unwrap(), "quell data format 99\n");
}

#[test]
fn a_configuration_that_makes_no_sense_is_told_with_its_place() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("controller");
    let init = ["init", "--data-dir", text(&data), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    controller(init).done();
    controller(init).says_no(INVALID, &["holds a controller already", text(&data), "serve"]);
    let nowhere = scratch.path().join("nowhere");
    controller(["serve", "--data-dir", text(&nowhere)]).says_no(INVALID, &[text(&nowhere), "quell-controller init"]);
    assert!(!nowhere.exists());
    fs::create_dir(&nowhere).unwrap();
    fs::write(nowhere.join("notes.txt"), "mine").unwrap();
    controller(["init", "--data-dir", text(&nowhere)])
        .says_no(INVALID, &["is not empty", "notes.txt", "a new directory"]);
    let name = ["init", "--data-dir", text(&scratch.path().join("n")), "--operator", "a b"].map(str::to_owned);
    controller(name).says_no(INVALID, &["\"a b\"", "name of an operator"]);
    assert!(!scratch.path().join("n").exists());

    let file = data.join("controller.toml");
    let good = fs::read_to_string(&file).unwrap();
    let serve = || controller(["serve", "--data-dir", text(&data)]);
    let with = |content: &str| {
        fs::write(&file, content).unwrap();
        serve()
    };
    let last = good.lines().count() + 1;
    with(&format!("{good}surprise = 1\n")).says_no(INVALID, &[&format!("controller.toml:{last}:"), "surprise"]);
    with(&good.replace("days = 400", "days = 0")).says_no(INVALID, &["retention.days is 0", "between 1 and"]);
    with(&good.replace("\"15s\"", "15")).says_no(INVALID, &["controller.toml:", "15"]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for field in ["listen", "http"] {
        let lines = good.lines().map(|line| match line.starts_with(&format!("{field} =")) {
            true => format!("{field} = \"{address}\""),
            false => line.to_owned(),
        });
        with(&lines.collect::<Vec<_>>().join("\n"))
            .says_no(FAILED, &[&address, &format!("{field} in"), "controller.toml", "in use", "write another port"]);
    }
    fs::write(&file, good).unwrap();
}

#[test]
fn an_agent_with_a_damaged_directory_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
    fleet.enrol(&host("planthost1", "[allow]\nactions = [\"exec\"]\n")).unwrap();
    fleet.kill_agent("planthost1");
    let copies = Copies { original: fleet.agent_data("planthost1"), place: scratch.path().join("copy") };
    let run = |directory: &Path| agent(["run", "--data-dir", text(directory)]);

    for file in ["chain.pem", "roots.pem", "key.pem", "identity.toml"] {
        for harm in HARM {
            let directory = copies.fresh();
            harm.inflict(&directory.join("identity").join(file));
            let words: &[&str] = match (file, harm) {
                // It is written last: without it nobody joined.
                ("identity.toml", Harm::Gone) => &["has not joined", "quell token create", "quell-agent join"],
                _ => &[file, "put the file back from a copy", "join it again"],
            };
            run(directory).says_no(FAILED, words);
        }
    }
    let key = copies.fresh().join("identity/key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    run(&copies.place).says_no(FAILED, &["key.pem", "can be read by others", "chmod 600"]);

    let config = |content: &str, code: i32, words: &[&str]| {
        fs::write(copies.fresh().join("agent.toml"), content).unwrap();
        run(&copies.place).says_no(code, words);
        let checked = agent(["check", "--data-dir", text(&copies.place)]);
        assert_eq!(checked.code, Some(code), "{checked:#?}");
        assert!(words.iter().all(|word| checked.out.contains(word)), "{checked:#?}");
    };
    config("[allow]\nactions = [\"serv", INVALID, &["agent.toml:2:", "correct the file"]);
    config("[allow]\nactoins = [\"exec\"]\n", INVALID, &["agent.toml:2:1", "actoins", "`actions`", "correct the file"]);
    config("[allow]\npaths = [\"/\"]\n", INVALID, &["agent.toml", "every file", "correct the file"]);
    config("[[mount]]\npath = \"/srv\"\ncapacity = 64\n", INVALID, &["agent.toml:3:", "correct the file"]);
    let file = copies.fresh().join("agent.toml");
    fs::write(&file, b"[allow]\n# \xff\n").unwrap();
    run(&copies.place).says_no(INVALID, &["agent.toml", "not text", "correct the file"]);
    fs::set_permissions(copies.fresh().join("agent.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    run(&copies.place).says_no(FAILED, &["agent.toml", "can be written by others", "chmod 600"]);

    let nowhere = scratch.path().join("nowhere");
    run(&nowhere).says_no(FAILED, &[text(&nowhere), "has not joined", "quell token create"]);
    assert!(!nowhere.exists(), "a directory was made for nobody");
}

//! People's keys, with real processes: what more than one person has to sign, what a profile remembers when the controller
//! is set back, and a key that waits to be touched.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs::{self, File},
    io::Read as _,
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quell_link::signing::{NewKey, SigningKey};
use quell_tests::fleet::{Fleet, Host, http_get, wait_for};
use serde_json::Value;

const PATIENT: Duration = Duration::from_secs(60);

/// An installation with one host and two people who may sign everything, each with a profile in a place of its own.
struct Office {
    scratch: tempfile::TempDir,
    fleet: Fleet,
}

impl Office {
    fn open() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
        fleet.enrol(&Host::running("web1", "web", "/bin/sh")).unwrap();
        let office = Self { scratch, fleet };
        fs::copy(office.fleet.profile(), office.profile("admin")).unwrap();
        let key = NewKey::make("bob").unwrap();
        fs::write(office.path("bob.key"), &key.private).unwrap();
        fs::set_permissions(office.path("bob.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(office.path("bob.pub"), &key.public).unwrap();
        let (to, public) = (text(&office.profile("bob")), text(&office.path("bob.pub")));
        office.done("admin", &["operator", "create", "bob", "--role", "admin", "--to", &to]);
        office.done("admin", &["trust", "add", "bob", &public, "--namespaces", "quell-*"]);
        office
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn profile(&self, who: &str) -> PathBuf {
        self.path(&format!("{who}.toml"))
    }

    /// The command line of a person: the administrator signs with the profile's key, Bob with his own.
    fn command(&self, who: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.fleet.cli());
        command.arg("--profile").arg(self.profile(who)).args(arguments).stdin(Stdio::null());
        if who == "bob" {
            command.env("QUELL_KEY", self.path("bob.key"));
        }
        command
    }

    fn quell(&self, who: &str, arguments: &[&str]) -> Output {
        self.command(who, arguments).output().unwrap()
    }

    fn done(&self, who: &str, arguments: &[&str]) -> String {
        let output = self.quell(who, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{who} {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn refused(&self, who: &str, arguments: &[&str], reasons: &[&str]) {
        let output = self.quell(who, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{who} {arguments:?} was done");
        for reason in reasons {
            assert!(said.contains(reason), "{who} {arguments:?}, {reason}: {said}");
        }
    }

    fn labels(&self) -> Value {
        self.fleet.items("hosts", &[]).unwrap()[0]["labels"].clone()
    }

    fn trust_version(&self, who: &str) -> Value {
        serde_json::from_str::<Value>(&self.done(who, &["trust", "show", "-o", "json"])).unwrap()["version"].clone()
    }

    /// A contact, in a file of its own.
    fn contact(&self, name: &str) -> String {
        let path = self.path("manifests").join(format!("{name}.yaml"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let manifest = format!(
            "apiVersion: quell/v1\nkind: Contact\nmetadata: {{ namespace: plants, name: {name} }}\nspec: {{ via: [log] }}\n"
        );
        fs::write(&path, manifest).unwrap();
        text(&path)
    }

    fn set_version(&self) -> u64 {
        let records = self.fleet.quell(&["events", "-o", "json"]).unwrap();
        let version = |line: &str| line.split("set ").nth(1)?.split(' ').next()?.parse().ok();
        records.lines().rev().find_map(version).unwrap_or(0)
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn what_two_people_must_sign_is_good_only_with_both() {
    let office = Office::open();
    let file = |name: &str| text(&office.path(name));
    office.done("admin", &["trust", "require", "run", "2"]);
    office.done("admin", &["trust", "require", "trust", "2"]);

    // A change of trust: saved, shown to the other, signed, sent.
    let (change, require) = (file("change"), ["trust", "require", "plants", "2"]);
    office.refused("admin", &require, &["2", "admin"]);
    let saved = office.done("admin", &[&require[..], &["--save", &change]].concat());
    assert!(saved.contains("not good yet") && saved.contains("quell countersign"), "{saved}");
    office.refused("admin", &["send", &change], &["nothing was sent", "version 5"]);
    office.done("admin", &["countersign", &change]);
    office.refused("admin", &["send", &change], &["nothing was sent"]);
    let signed = office.done("bob", &["countersign", &change]);
    assert!(signed.contains("+plants: 2 people must sign") && signed.contains("next: quell send"), "{signed}");
    office.done("admin", &["send", &change]);
    assert_eq!(office.trust_version("bob"), 5);
    office.refused("bob", &["countersign", &change, "--key", &file("bob.pub")], &[]);

    // Labels: the other signs the bytes of the file, wherever and with whatever makes SSH signatures.
    let labels = file("labels");
    office.refused("admin", &["host", "label", "web1", "zone=a"], &["2"]);
    office.done("admin", &["host", "label", "web1", "zone=a", "--save", &labels]);
    let bob = SigningKey::open(&office.path("bob.key")).unwrap();
    let signature = bob.sign("quell-trust", &fs::read(&labels).unwrap()).unwrap();
    let both = fs::read_to_string(office.path("labels.sig")).unwrap() + &signature;
    fs::write(office.path("labels.sig"), both).unwrap();
    office.done("bob", &["send", &labels, "--reason", "it moved"]);
    let relabelled = || (office.labels()["zone"] == "a").then_some(());
    wait_for(PATIENT, || office.labels().to_string(), relabelled).unwrap();

    // A run: hosts count the people who signed it themselves.
    let (run, mark) = (file("run"), office.path("mark"));
    let argv = format!("argv=[\"/bin/sh\",\"-c\",\"echo >>{}\"]", mark.display());
    let order = ["run", "exec", "-l", "zone=a", "--set", &argv];
    office.refused("admin", &order, &["2"]);
    office.done("admin", &[&order[..], &["--save", &run]].concat());
    office.refused("admin", &["send", &run, "--wait"], &["nothing was sent"]);
    assert!(!mark.exists());
    let shown = office.done("bob", &["countersign", &run]);
    assert!(shown.contains("/bin/sh") && shown.contains("zone"), "{shown}");
    let done = office.done("bob", &["send", &run, "--wait"]);
    assert!(done.contains("succeeded"), "{done}");
    assert_eq!(fs::read(&mark).unwrap(), b"\n");
}

#[test]
fn a_profile_notices_that_the_controller_was_set_back_and_gives_it_back_what_it_lost() {
    let mut office = Office::open();
    let (ann, bea) = (office.contact("ann"), office.contact("bea"));
    office.done("admin", &["apply", "-f", &ann]);
    let (data, backup) = (office.fleet.controller_data(), office.path("backup"));
    let controller = office.fleet.cli().with_file_name("quell-controller");
    let control = |arguments: &[&str]| {
        let output = Command::new(&controller).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    control(&["backup", "--data-dir", &text(&data), "--to", &text(&backup)]);
    office.done("admin", &["apply", "-f", &bea]);
    office.done("admin", &["apply", "-f", &ann, "--prune"]);
    assert_eq!(office.set_version(), 3);
    office.done("admin", &["trust", "require", "shop", "2"]);

    office.fleet.stop_controller().unwrap();
    fs::rename(&data, office.path("lost")).unwrap();
    control(&["restore", "--data-dir", &text(&data), "--from", &text(&backup)]);
    office.fleet.start_controller().unwrap();

    let bea_again = ["apply", "-f", &bea];
    office.refused("admin", &bea_again, &["older version", "version 3", "quell trust give-back"]);
    assert_eq!(office.trust_version("bob"), 2, "he has not seen the change");
    assert!(office.done("bob", &["trust", "give-back"]).contains("has every version"));
    let given = office.done("admin", &["trust", "give-back"]);
    assert!(given.contains("version 3 is in force"), "{given}");
    assert_eq!(office.trust_version("bob"), 3);

    office.refused("admin", &bea_again, &["shows set 1 of plants", "saw set 3", "--prune", "set 4"]);
    let directory = text(&office.path("manifests"));
    office.done("admin", &["apply", "-f", &directory, "--prune"]);
    assert_eq!(office.set_version(), 4);
    office.done("admin", &bea_again);
    assert!(http_get(office.fleet.http_port(), "/readyz").unwrap().starts_with("HTTP/1.1 200"));
}

/// Stands in for OpenSSH's program with a hardware key, which no test can touch: like that, it says that it waits only
/// where its standard error is a terminal.
const TOKEN: &str = "#!/bin/sh
cat >ASKED.part && mv ASKED.part ASKED
[ -t 2 ] && echo 'Confirm user presence for key' >&2
while [ ! -e TOUCHED ]; do sleep 0.05; done
[ -s TOUCHED ] || { [ -t 2 ] || echo 'device not found' >&2; exit 1; }
cat TOUCHED
";

#[test]
fn a_key_that_waits_to_be_touched_says_so_at_the_terminal() {
    let office = Office::open();
    let (asked, touched, programs) = (office.path("asked"), office.path("touched"), office.path("bin"));
    fs::create_dir(&programs).unwrap();
    let program = programs.join("ssh-keygen");
    fs::write(&program, TOKEN.replace("ASKED", &text(&asked)).replace("TOUCHED", &text(&touched))).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let (key, file) = (text(&office.path("bob.pub")), text(&office.path("change")));
    let change = ["trust", "require", "plants", "2", "--save", &file, "--key", &key];

    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = office.command("bob", &change);
    let mut child = command.env("PATH", &path).stdout(Stdio::null()).stderr(terminal.slave).spawn().unwrap();
    drop(command);
    let mut said = [0; 256];
    let mut screen = File::from(terminal.master);
    let mut shown = [PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
    let is_shown = poll(&mut shown, PollTimeout::from(20_000_u16)).unwrap() > 0;
    if !is_shown {
        child.kill().unwrap();
        fs::write(&touched, "").unwrap();
        panic!("nothing was shown at the terminal");
    }
    let read = screen.read(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said[..read]).into_owned();
    assert!(said.contains("Confirm user presence"), "{said}");
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    let bob = SigningKey::open(&office.path("bob.key")).unwrap();
    let signature = bob.sign("quell-trust", &fs::read(&asked).unwrap()).unwrap();
    fs::write(office.path("touch"), signature).unwrap();
    fs::rename(office.path("touch"), &touched).unwrap();
    assert!(child.wait().unwrap().success());
    office.done("bob", &["send", &file]);

    // Without a terminal, its reason is part of the error.
    fs::write(&touched, "").unwrap();
    let other = text(&office.path("other"));
    let change = ["trust", "require", "plants", "1", "--save", &other, "--key", &key];
    let output = office.command("bob", &change).env("PATH", &path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("device not found"), "{said}");
    assert!(!office.path("other").exists(), "nothing was saved");
}

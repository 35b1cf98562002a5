//! `quell run --again`, with real processes: what failed on one host and never began on others is run there again, and
//! where it was done it is not done twice.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use quell_tests::fleet::{Fleet, Host};

/// Hosts that let a script be run, which leaves a mark; while there is a file `broken`, only the first that comes can.
struct Shop {
    scratch: tempfile::TempDir,
    fleet: Fleet,
}

impl Shop {
    fn open() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
        for (name, role) in [("db1", "db"), ("web1", "web"), ("web2", "web"), ("web3", "web")] {
            fleet.enrol(&Host::running(name, role, "/bin/sh")).unwrap();
        }
        Self { scratch, fleet }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Has the script run, two hosts at a time, on those that the rest of the command line names.
    fn run(&self, more: &[&str]) -> Said {
        let script = format!(
            "cd {} && {{ mkdir first 2>/dev/null || [ ! -e broken ]; }} && echo >>marks",
            self.scratch.path().display()
        );
        let argv = serde_json::to_string(&["/bin/sh", "-c", &script]).unwrap();
        let mut command = Command::new(self.fleet.cli());
        command.arg("--profile").arg(self.fleet.profile()).args(["run", "exec", "--wait", "--waves", "2", "--set"]);
        let output = command.arg(format!("argv={argv}")).args(more).stdin(Stdio::null()).output().unwrap();
        Said {
            code: output.status.code(),
            text: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        }
    }

    fn marks(&self) -> usize {
        fs::read(self.path("marks")).map_or(0, |marks| marks.len())
    }
}

/// How the CLI ended, and all that it said.
struct Said {
    code: Option<i32>,
    text: String,
}

impl Said {
    fn ends(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        for part in parts {
            assert!(self.text.contains(part), "no {part:?} in: {}", self.text);
        }
    }
}

#[test]
fn what_failed_or_never_began_is_run_again_and_what_was_done_is_not() {
    let shop = Shop::open();
    fs::write(shop.path("broken"), "").unwrap();
    shop.run(&["-l", "role=web"]).ends(7, &["notStarted", "add --again plan-1"]);
    assert_eq!(shop.marks(), 1, "one of the first wave failed, and the second wave was spared");

    fs::remove_file(shop.path("broken")).unwrap();
    shop.run(&["--again", "plan-1", "-l", "role=db"]).ends(2, &["no host that is enrolled is meant"]);
    shop.run(&["--again", "plan-1", "--outcome", "skipped"]).ends(4, &["no host of plan-1 ended skipped"]);
    shop.run(&["--again", "plan-9"]).ends(4, &["there is no plan-9"]);
    assert_eq!(shop.marks(), 1);

    shop.run(&["--again", "plan-1"]).ends(0, &["of plan-1, failed: web", "; notStarted: web3", "plan-2"]);
    assert_eq!(shop.marks(), 3, "once on each");
    shop.run(&["--again", "plan-2"]).ends(4, &["no host of plan-2 ended"]);

    shop.run(&["--host", "web1,db1", "-l", "role=web"]).ends(0, &["plan-3 leaves out db1"]);
    assert_eq!(shop.marks(), 4);
    shop.run(&["--host", "web9"]).ends(2, &["no host that is enrolled is meant"]);
    shop.run(&["--host", ""]).ends(2, &[]);
    shop.run(&[]).ends(2, &["--again"]);
    assert_eq!(shop.marks(), 4);
}

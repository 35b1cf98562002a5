//! Programs run to their end, and what is to be said of it.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use quell_tests::fleet::{Fleet, Host, process::Programs};

/// Done.
pub(crate) const DONE: i32 = 0;
/// It was tried and failed.
pub(crate) const FAILED: i32 = 1;
/// Usage, or invalid input.
pub(crate) const INVALID: i32 = 2;
/// Somebody said no.
pub(crate) const REFUSED: i32 = 3;
/// There is no such thing.
pub(crate) const NOT_FOUND: i32 = 4;
/// The controller cannot be reached.
pub(crate) const UNREACHABLE: i32 = 5;
/// `diff` found changes.
pub(crate) const CHANGES: i32 = 10;

/// How a program ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Programs of the checkout.
pub(crate) fn programs() -> Programs {
    Programs::beside_this_one().unwrap()
}

/// A program with nothing of the environment that would change what it does.
pub(crate) fn command<S: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    for variable in ["QUELL_PROFILE", "XDG_CONFIG_HOME", "RUST_LOG", "NO_COLOR", "CLICOLOR_FORCE", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    command
}

/// Runs to the end.
pub(crate) fn run(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// `quell-controller`.
pub(crate) fn controller<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    run(command(&programs().controller, arguments))
}

/// `quell-agent`.
pub(crate) fn agent<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    run(command(&programs().agent, arguments))
}

/// `quell` with a profile.
pub(crate) fn quell(profile: &Path, arguments: &[&str]) -> Ended {
    run(command(
        &programs().cli,
        [OsStr::new("--profile"), profile.as_os_str()].into_iter().chain(arguments.iter().map(OsStr::new)),
    ))
}

impl Ended {
    /// It said no with this code, in one line of standard error that holds all of these words, and nothing else.
    #[track_caller]
    pub(crate) fn says_no(&self, code: i32, words: &[&str]) {
        self.ends(code, words);
        assert_eq!(self.err.trim_end().lines().count(), 1, "more than one error: {self:#?}");
    }

    /// It ended with this code, standard error holds all of these words, and nothing broke.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.err.contains(word), "nothing of {word:?}: {self:#?}");
        }
        assert_eq!(self.out, "", "{self:#?}");
        calm(&self.err);
    }

    /// It was done; what it printed.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(DONE), "{self:#?}");
        calm(&self.err);
        self.out
    }
}

/// There is no trace of a panic in a text.
#[track_caller]
pub(crate) fn calm(text: &str) {
    assert!(!text.contains("panic"), "something panicked: {text}");
}

/// There is no trace of a panic in any log below a directory, and at least one log.
#[track_caller]
pub(crate) fn logs_are_calm(root: &Path) {
    let mut logs = 0;
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "log") {
            calm(&fs::read_to_string(&path).unwrap());
            logs += 1;
        }
    }
    assert!(logs > 0, "no log in {}", root.display());
}

/// Everything that people made in an installation: what a refusal must leave as it is.
pub(crate) fn standing(fleet: &Fleet) -> String {
    let mut text = String::new();
    for kind in ["policies", "contacts", "windows", "tokens", "operators", "incidents"] {
        text.push_str(&fleet.quell(&["get", kind, "-o", "json", "--all"]).unwrap());
    }
    for host in fleet.items("hosts", &["--all"]).unwrap() {
        text.push_str(&format!("{} {} {}\n", host["name"], host["state"], host["labels"]));
    }
    text
}

/// A host of which nothing special is wanted.
pub(crate) fn host(name: &str, agent_toml: &str) -> Host {
    Host {
        name: name.to_owned(),
        labels: vec![("role".to_owned(), "orders".to_owned())],
        agent_toml: agent_toml.to_owned(),
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

//! Names and command lines of processes that somebody chose to mislead.

use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    process::{Child, Command, Stdio},
};

use quell_model::{probe::ProbeSpec, value::Fields};

use crate::world::{ALLOW, PATIENT, context, judged, probe};

/// A program under a name of somebody's choice, which the kernel shows as that of the process; ended when dropped.
struct Impostor {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Impostor {
    /// It sleeps. Its command line is these arguments, the first one being what it calls itself.
    fn start(name: &[u8], arguments: &[&[u8]]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join(OsStr::from_bytes(name));
        std::fs::copy("/bin/sh", &program).unwrap();
        let mut command = Command::new(&program);
        command.arg0(OsStr::from_bytes(arguments[0])).args(["-c", "read line"]);
        command.args(arguments[1..].iter().map(|argument| OsStr::from_bytes(argument)));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, _directory: directory }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn look(spec: &ProbeSpec) -> (bool, Fields) {
    let data = tempfile::tempdir().unwrap();
    judged(probe(spec, &context(ALLOW, data.path()).await).attempt(PATIENT).await)
}

fn named(name: &str) -> ProbeSpec {
    ProbeSpec::Process { name: Some(name.to_owned()), command: None }
}

fn commanded(pattern: String) -> ProbeSpec {
    ProbeSpec::Process { name: None, command: Some(pattern) }
}

#[tokio::test]
async fn a_name_with_anything_in_it_is_read_as_it_is() {
    // The first would look dead, and the second like another process, to who splits at the wrong parenthesis.
    for name in ["q1) Z 1 (", "q2 (a) S 1\n", "q3\n4 (b) S", "q4\u{1b}[2J\u{7}", "q5\tü ) )"] {
        let _impostor = Impostor::start(name.as_bytes(), &[b"sh"]);
        let (ok, fields) = look(&named(name)).await;
        assert_eq!((ok, &fields["count"]), (true, &1.0.into()), "{name:?}");
        let resident = fields["rss_bytes"].number().unwrap();
        assert!(resident > 4096.0 && resident < 1e9, "{name:?}: {resident}");
    }
}

#[tokio::test]
async fn a_name_that_begins_like_another_is_not_that_one() {
    let _impostor = Impostor::start(b"quell-orders-pr\n", &[b"sh"]);
    let (ok, fields) = look(&named("quell-orders-processor")).await;
    assert_eq!((ok, &fields["count"]), (false, &0.0.into()), "the kernel keeps 15 bytes of a name, and they are equal");
}

#[tokio::test]
async fn a_command_line_is_matched_as_a_whole_and_need_not_be_text() {
    let number = std::process::id();
    let wanted = format!("orders-{number}");
    // Lines are not anchors: who puts the wanted words on a line of their own is not who is looked for.
    let lines = format!("x\n{wanted} --config /etc/orders\nx");
    let _lines = Impostor::start(b"sh", &[b"sh", lines.as_bytes()]);
    assert!(!look(&commanded(format!("^{wanted} "))).await.0);

    let mut bytes = b"\xff\xfe\x1b]0;owned\x07 ".to_vec();
    bytes.extend_from_slice(wanted.as_bytes());
    let _bytes = Impostor::start(b"sh", &[&bytes]);
    let (ok, fields) = look(&commanded(format!(r"(?-u)^\xff\xfe.*{wanted} -c "))).await;
    assert_eq!((ok, &fields["count"]), (true, &1.0.into()));

    // A very long line is read up to a limit, and what lies behind it does not count.
    let long = vec![b'a'; 100_000];
    let _long = Impostor::start(b"sh", &[b"sh", &long, format!("behind-{number}").as_bytes()]);
    assert!(!look(&commanded(format!("behind-{number}"))).await.0);
}

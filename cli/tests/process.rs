//! The program as scripts run it: exit codes, which stream says what, and what a closed pipe does.

use std::{
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use quell_link::{
    authority::{self, Authority},
    free_port,
    profile::Profile,
};

const CONTACT: &str = "apiVersion: quell/v1\nkind: Contact\nmetadata: { namespace: plants, name: on-call }\n\
                       spec:\n  via: [log]\n";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quell"));
    command.args(arguments).env_remove("QUELL_PROFILE").env_remove("RUST_LOG").env("HOME", "/nonexistent");
    command.env_remove("XDG_CONFIG_HOME");
    command
}

fn quell(arguments: &[&str]) -> Output {
    command(arguments).output().expect("quell runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// A profile whose controller is not there.
fn profile_of_nobody(directory: &Path) -> std::path::PathBuf {
    let now = jiff::Timestamp::now();
    let authority = Authority::create(&directory.join("authority"), "nobody", now).expect("an authority");
    let (key, csr) = authority::new_key().expect("a key");
    let issued = authority.issue_operator(&csr, "ghammer", now, Duration::from_secs(3600)).expect("a certificate");
    let nobody = free_port::listener(Ipv4Addr::LOCALHOST.into()).and_then(|listener| listener.local_addr());
    let addresses = vec![nobody.expect("a free port").to_string()];
    let file = directory.join("profile.toml");
    Profile::new("ghammer", "nobody", addresses, &authority.roots(), &issued.chain, key.serialize_pem())
        .save(&file)
        .expect("a profile");
    file
}

#[test]
fn manifests_are_checked_offline() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("contact.yaml");
    std::fs::write(&file, CONTACT).unwrap();
    let good = quell(&["check", "-f", path(&file)]);
    assert_eq!((good.status.code(), stdout(&good).as_str()), (Some(0), "ok: 1 manifest in 1 file\n"));

    std::fs::write(&file, CONTACT.replace("via", "vai")).unwrap();
    let wrong = quell(&["check", "-f", path(&file)]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stdout(&wrong).is_empty());
    let message = stderr(&wrong);
    assert!(message.starts_with(&format!("{}:", path(&file))), "file:line:column first: {message}");
    assert!(message.contains("via"), "the nearest name: {message}");

    let missing = quell(&["check", "-f", path(&scratch.path().join("nothing.yaml"))]);
    assert_eq!(missing.status.code(), Some(4), "{}", stderr(&missing));
}

#[test]
fn a_template_can_be_checked_as_it_is() {
    let template = quell(&["new", "storage"]);
    assert_eq!(template.status.code(), Some(0));
    let mut check = command(&["check", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(&template.stdout).unwrap();
    let output = check.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).starts_with("ok: "));
}

#[test]
fn every_way_to_fail_has_its_exit_code() {
    let scratch = tempfile::tempdir().unwrap();
    let file = profile_of_nobody(scratch.path());
    let profile = path(&file);
    for (arguments, code, words) in [
        (&["get", "everything"] as &[&str], 2, "possible values"),
        (&["get", "hosts"], 2, "QUELL_PROFILE"),
        (&["--profile", "/nonexistent", "get", "hosts"], 2, "/nonexistent"),
        (&["--profile", profile, "get", "hosts"], 5, "cannot reach the controller"),
        (&["--profile", profile], 5, "cannot reach the controller"),
        (&["--profile", profile, "events"], 5, "cannot reach the controller"),
        (&["explain", "policy.nothing"], 4, "no field"),
        (&["new", "nothing"], 2, "possible values"),
    ] {
        let output = quell(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{arguments:?}: an error is no answer");
    }
}

#[test]
fn the_profile_comes_from_the_environment_or_the_home_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let file = profile_of_nobody(scratch.path());
    let named = command(&["get", "hosts"]).env("QUELL_PROFILE", &file).output().unwrap();
    assert_eq!(named.status.code(), Some(5), "found, but nobody answers: {}", stderr(&named));
    let place = scratch.path().join(".config/quell");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::rename(&file, place.join("profile.toml")).unwrap();
    let found = command(&["get", "hosts"]).env("HOME", scratch.path()).output().unwrap();
    assert_eq!(found.status.code(), Some(5), "found, but nobody answers: {}", stderr(&found));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = command(&["new", "storage"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn nothing_is_coloured_where_nobody_sees_it() {
    let explained = quell(&["explain", "probe.dns"]);
    assert!(!stdout(&explained).contains('\u{1b}'));
    let asked = command(&["explain", "probe.dns"]).env("NO_COLOR", "1").env("CLICOLOR_FORCE", "0").output().unwrap();
    assert!(!stdout(&asked).contains('\u{1b}'));
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let output = quell(&["explain", "probe.\u{1b}]0;owned\u{7}"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(!stderr(&output).contains('\u{1b}') && stderr(&output).contains("\\u{1b}"), "{}", stderr(&output));
}

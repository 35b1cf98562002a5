//! `allowed_signers` against OpenSSH: over a generated corpus, what `ssh-keygen -Y verify` accepts and what
//! `ssh-keygen -Y find-principals` prints is what we accept and find.
//!
//! Left out of the corpus are the deliberate differences that `quell_model::trust::signers` lists.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::disallowed_methods, reason = "files are what ssh-keygen reads")]

mod token;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use fastrand::Rng;
use jiff::{Timestamp, tz::TimeZone};
use quell_model::trust::{AllowedSigners, signature::Signature};
use token::Token;

const CASES: usize = 320;
const MESSAGE: &str = "what is signed\n";
const NAMESPACES: [&str; 2] = ["quell-policy", "quell-approval.ops"];
const KINDS: [(&str, &str); 5] =
    [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048")];
const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney"];
const NAMES: [&str; 5] = ["alice", "bob", "alice@example.com", "alice smith", "eve"];
const PRINCIPALS: [&str; 20] = [
    "alice",
    "bob",
    "alice,bob",
    "bob,alice",
    "*",
    "al*e",
    "al?ce",
    "a*,b*",
    "!bob,*",
    "*,!alice",
    "!alice,alice",
    "!!alice,bob",
    "alice,",
    ",",
    "\"alice\"",
    "\"alice smith\"",
    "\"alice,bob\"",
    "ali\"ce\"",
    "\"*@example.com,eve",
    "*@example.com,!eve",
];
const OPTIONS: [&str; 16] = [
    "",
    "",
    "",
    "namespaces=\"quell-policy\"",
    "namespaces=\"quell-*\"",
    "namespaces=\"*,!quell-policy\"",
    "Namespaces=\"git,quell-approval.*\"",
    "namespaces=\"a\\\"b,quell-policy\"",
    ",namespaces=\"quell-*\"",
    "namespaces=quell-policy",
    "namespaces=\"quell-policy",
    "namespaces=\"quell-*\",",
    "bogus",
    "namespaces=\"\"",
    "namespaces=\"quell-*\",namespaces=\"quell-*\"",
    "namespaces=\"quell-*\"x",
];
/// Around the moment of verification, 2026-06-15T12:00:00Z.
const TIMES: [&str; 18] = [
    "20260615",
    "20260615Z",
    "202606151200",
    "202606151200Z",
    "202606151159",
    "202606151159z",
    "20260615120000UTC",
    "20260615120001utc",
    "20260615115959Z",
    "20260616",
    "20260614Z",
    "20260231",
    "20260545Z",
    "99991231",
    "19700101Z",
    "2026061",
    "20261301",
    "202606152400",
];
const ENDINGS: [&str; 5] = ["\n", "\r\n", " a comment\n", "\t# not one\n", "\n\n"];
const OTHER_LINES: [&str; 8] = [
    "# people\n",
    "\n",
    "  \t\n",
    "   # indented\n",
    "nonsense\n",
    "alice\n",
    "alice namespaces=\"quell-*\"\n",
    "\"alice\n",
];

/// A key, its public line, and a signature in each namespace.
struct Key {
    public: String,
    signatures: Vec<String>,
}

impl Key {
    fn of_token(token: &Token) -> Self {
        let signatures = NAMESPACES.iter().map(|namespace| token.sign(namespace, MESSAGE.as_bytes())).collect();
        Self { public: token.public(), signatures }
    }
}

fn ssh_keygen(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("ssh-keygen");
    command.args(arguments).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn done(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn make_key(directory: &Path, name: &str, (kind, bits): (&str, &str)) -> Key {
    done(ssh_keygen(directory, &["-q", "-t", kind, "-b", bits, "-N", "", "-C", "", "-f", name]));
    std::fs::write(directory.join("message"), MESSAGE).unwrap();
    let sign = |namespace: &&str| {
        done(ssh_keygen(directory, &["-q", "-Y", "sign", "-f", name, "-n", namespace, "message"]));
        let path = directory.join("message.sig");
        let signature = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        signature
    };
    let public = std::fs::read_to_string(directory.join(format!("{name}.pub"))).unwrap().trim().to_owned();
    Key { public, signatures: NAMESPACES.iter().map(sign).collect() }
}

fn pick<'a>(random: &mut Rng, list: &[&'a str]) -> &'a str {
    list[random.usize(..list.len())]
}

/// A line with a key, often the one that signs, sometimes a broken one.
fn line(random: &mut Rng, keys: &[Key], signing: usize) -> String {
    let key = if random.u8(..6) > 0 { signing } else { random.usize(..keys.len()) };
    let public = &keys[key].public;
    let public = match random.u8(..32) {
        0 => public[..public.len() - 5].to_owned(),
        1 => public.replacen("ssh-", "ecdsa-", 1),
        2 => public.replacen("ssh-rsa", "rsa-sha2-512", 1),
        3 => public.replacen(' ', "\t", 1),
        4 => public.replacen("AAAA", "AAAB", 1),
        _ => public.clone(),
    };
    let mut options = vec![if random.bool() { pick(random, &OPTIONS).to_owned() } else { String::new() }];
    for name in ["valid-after", "valid-before", "Valid-Before"] {
        if random.u8(..6) == 0 {
            options.push(format!("{name}=\"{}\"", pick(random, &TIMES)));
        }
    }
    options.retain(|option| !option.is_empty());
    random.shuffle(&mut options);
    let options = options.join(",");
    let (gap, ending) = (pick(random, &[" ", "\t", "  ", " \t "]), pick(random, &ENDINGS));
    let (begin, principals) = (pick(random, &["", "", "", " ", "\t"]), pick(random, &PRINCIPALS));
    let options = if options.is_empty() { options } else { format!("{options}{gap}") };
    format!("{begin}{principals}{gap}{options}{public}{ending}")
}

fn file(random: &mut Rng, keys: &[Key], signing: usize) -> String {
    let mut text = String::new();
    for _ in 0..random.usize(1..4) {
        if random.u8(..4) == 0 {
            text.push_str(pick(random, &OTHER_LINES));
        }
        text.push_str(&line(random, keys, signing));
    }
    if random.u8(..4) == 0 { text.trim_end_matches('\n').to_owned() } else { text }
}

/// What OpenSSH says: whether it accepts, and the principals that it finds.
struct Oracle<'a> {
    directory: &'a Path,
    time: String,
    zone: &'a str,
}

impl Oracle<'_> {
    fn accepts(&self, principal: &str, namespace: &str, message: &str) -> bool {
        let time = format!("-Overify-time={}", self.time);
        let arguments = ["-Y", "verify", "-f", "allowed", "-I", principal, "-n", namespace, "-s", "signature", &time];
        let mut command = ssh_keygen(self.directory, &arguments);
        let mut child = command.env("TZ", self.zone).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
        child.wait_with_output().unwrap().status.success()
    }

    fn principals(&self) -> Option<String> {
        let time = format!("-Overify-time={}", self.time);
        let arguments = ["-Y", "find-principals", "-f", "allowed", "-s", "signature", &time];
        let output = ssh_keygen(self.directory, &arguments).env("TZ", self.zone).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.trim_end_matches('\n').to_owned())
    }
}

/// Why the corpus cannot be run here, if it cannot.
fn obstacle() -> Option<&'static str> {
    let found = Command::new("ssh-keygen").arg("-?").stdin(Stdio::null()).output().is_ok();
    let zones = ZONES.iter().all(|zone| Path::new("/usr/share/zoneinfo").join(zone).exists());
    match (found, zones) {
        (false, _) => Some("ssh-keygen is not on the PATH: install OpenSSH's client"),
        (_, false) => Some("/usr/share/zoneinfo lacks time zones: install tzdata"),
        _ => None,
    }
}

#[test]
fn we_accept_exactly_what_ssh_keygen_accepts() {
    if let Some(why) = obstacle() {
        println!("SKIPPED, nothing was compared: {why}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let made = KINDS.iter().enumerate().map(|(index, kind)| make_key(directory, &format!("key{index}"), *kind));
    let keys: Vec<Key> = made.chain([Token::ed25519(), Token::p256()].iter().map(Key::of_token)).collect();
    let random = &mut Rng::with_seed(20_261_127);
    let (mut accepted, mut named) = (0, 0);
    for case in 0..CASES {
        let signing = random.usize(..keys.len());
        let text = file(random, &keys, signing);
        let namespace = usize::from(random.bool());
        let asked = if random.u8(..16) == 0 { 1 - namespace } else { namespace };
        let message = if random.u8(..24) == 0 { "something else\n" } else { MESSAGE };
        let principal = if random.bool() { "alice" } else { pick(random, &NAMES) };
        let offset = [0, 0, -1, 1, 3_600, -3_600, 43_200][random.usize(..7)];
        let at = Timestamp::from_second(1_781_524_800 + offset).unwrap();
        let zone = pick(random, &ZONES);
        let signature = &keys[signing].signatures[namespace];
        std::fs::write(directory.join("allowed"), &text).unwrap();
        std::fs::write(directory.join("signature"), signature).unwrap();
        let oracle = Oracle { directory, time: at.strftime("%Y%m%d%H%M%SZ").to_string(), zone };
        let shown = format!("case {case}, {principal}, {}, {at}, TZ={zone}\n{text}", NAMESPACES[asked]);

        let (signers, _) = AllowedSigners::read(&text);
        let (asked, zone) = (NAMESPACES[asked], TimeZone::get(zone).unwrap());
        let ours = signers.verify_as(principal, asked, message.as_bytes(), signature, at, &zone);
        assert_eq!(ours.is_ok(), oracle.accepts(principal, asked, message), "{ours:?}\n{shown}");
        let found = signers.find_principals(&Signature::parse(signature).unwrap(), at, &zone);
        // It prints one a line, and stops at an empty one.
        let lines = |list: &str| list.split(',').take_while(|one| !one.is_empty()).collect::<Vec<_>>().join("\n");
        assert_eq!(found.map(lines), oracle.principals(), "{shown}");
        if let Ok(signer) = signers.verify(asked, message.as_bytes(), signature, at, &zone) {
            assert!(oracle.accepts(&signer.principal, asked, message), "{signer}\n{shown}");
            named += 1;
        }
        accepted += usize::from(ours.is_ok());
    }
    println!("{CASES} cases: {accepted} accepted by both, {} by neither; {named} named", CASES - accepted);
    assert!((CASES / 4..CASES * 3 / 4).contains(&accepted), "{accepted} accepted: the corpus is lopsided");
}

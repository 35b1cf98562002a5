//! Secrets are in the files that hold them and nowhere else, with real processes that log whatever they can.
//!
//! Everything that a secret goes through is made to happen; then all that anybody is shown, and every file that
//! is not a secret's own, is searched for each of them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use quell_link::{join::JoinString, signing::NewKey};
use quell_tests::fleet::{Fleet, http_get, process::Programs, wait_for};

const PATIENT: Duration = Duration::from_secs(60);
/// Everything of the programs themselves and of the libraries that they speak through.
const TALK: &str = "trace";
const PASSWORD: &str = "hunter2-of-the-chat";
const SENT: &str = "T0K3N-of-the-chat-that-answers";
const REFUSED: &str = "T0K3N-of-the-chat-that-refuses";
const UNREACHED: &str = "T0K3N-of-the-chat-that-is-away";
const DATABASE: &str = "hunter2-of-the-database";
const FORGED: &str = "T0K3N-that-somebody-thought-of-43-characters";

const AGENT_TOML: &str = r#"
[allow]
actions = ["exec", "service.restart", "dns.failover"]
programs = ["/bin/true"]
services = ["queue"]

[[service]]
name = "queue"
manager = "command"
start = ["/bin/sleep", "600"]
environment = { DATABASE_PASSWORD = "DATABASE" }

[[dns]]
server = "NAMESERVER"
zone = "exoticplant.plant"
record = "ns"
key = "failover"
secret_file = "SECRET_FILE"
"#;

const MANIFESTS: &str = "apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec:
  via: [log, { webhook: { urlFile: sent } }, { webhook: { urlFile: refused } }, { webhook: { urlFile: unreached } }]
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: queue }
spec:
  description: the queue grows
  mode: enforce
  hosts: { matchLabels: { role: web } }
  trigger: { when: host.uptime > 0 }
  ladder:
    - name: again
      do: [{ action: service.restart, with: { service: queue } }]
      verify: { that: host.uptime < 0, within: 1s }
  escalate: { to: on-call, after: 1s }
";

const KINDS: [&str; 14] = [
    "hosts",
    "policies",
    "incidents",
    "plans",
    "approvals",
    "holds",
    "windows",
    "alerts",
    "tokens",
    "operators",
    "services",
    "calendars",
    "contacts",
    "limits",
];

/// What must not be seen.
struct Secret {
    what: String,
    /// Any of them gives it away.
    forms: Vec<Vec<u8>>,
    /// The ends of the paths of the files that are meant to hold it.
    homes: Vec<String>,
}

impl Secret {
    fn text(text: &str, homes: &[&str]) -> Self {
        let homes = homes.iter().map(|&home| home.to_owned()).collect();
        Self { what: text.to_owned(), forms: vec![text.as_bytes().to_vec()], homes }
    }

    /// A private key: any of its lines gives it away, and so do its bytes, as they are or as Rust prints them.
    fn key(pem: &str, home: &str) -> Self {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        assert!(pem.contains("PRIVATE KEY"), "{home} holds no private key");
        let lines: Vec<&str> = pem.lines().map(str::trim).filter(|line| !line.starts_with("--")).collect();
        let bytes = STANDARD.decode(lines.concat()).unwrap();
        // The beginning is the same in every key of a kind.
        let printed = format!("{:?}", &bytes[16..]);
        let lines = if pem.contains("OPENSSH") { &lines[1..] } else { &lines[..] };
        let mut forms: Vec<Vec<u8>> = lines.iter().filter(|line| line.len() > 8).map(|&line| line.into()).collect();
        forms.extend([bytes, printed.trim_matches(['[', ']']).into()]);
        Self { what: format!("the private key of {home}"), forms, homes: vec![home.to_owned()] }
    }

    fn is_at_home(&self, path: &Path) -> bool {
        self.homes.iter().any(|home| path.ends_with(home))
    }
}

/// Somebody's chat: takes what is posted with one token, refuses the rest, and remembers what was asked of it.
struct Chat {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Chat {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::default());
        let remembered: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
        // It ends with the test.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = Vec::new();
                while !String::from_utf8_lossy(&request).contains("\"subject\"") {
                    let mut buffer = [0; 4096];
                    match stream.read(&mut buffer) {
                        Ok(length @ 1..) => request.extend_from_slice(&buffer[..length]),
                        _ => break,
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let answer = if request.contains(SENT) { "204 No Content" } else { "500 Oops" };
                // Whoever asked may have gone.
                let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                remembered.lock().unwrap().push(request);
            }
        });
        Self { port, asked }
    }

    fn was_asked(&self, token: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|request| request.contains(token))
    }
}

/// A name server that hangs up on whoever asks, and says that it was asked.
fn name_server() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (asked, was_asked)) = (listener.local_addr().unwrap(), mpsc::channel());
    // It ends with the test.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            if stream.read(&mut [0; 512]).is_ok_and(|length| length > 0) {
                // The test may have ended.
                let _ = asked.send(());
            }
        }
    });
    (address, was_asked)
}

/// An installation, its secrets, and what its programs have said so far.
struct Office {
    scratch: tempfile::TempDir,
    fleet: Fleet,
    secrets: Vec<Secret>,
    said: Vec<(String, Vec<u8>)>,
}

impl Office {
    fn open() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let fleet = Fleet::start_talking(&scratch.path().join("quell"), Some(TALK)).unwrap();
        Self { scratch, fleet, secrets: Vec::new(), said: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn run(&mut self, program: &Path, arguments: &[&str]) -> Output {
        let output = Command::new(program).args(arguments).env("RUST_LOG", TALK).stdin(Stdio::null()).output().unwrap();
        // Whoever makes a token is shown it, once.
        if arguments.contains(&"token") {
            self.said.push((format!("standard error of {arguments:?}"), output.stderr.clone()));
        } else {
            let said = [&output.stdout[..], &output.stderr[..]].concat();
            self.said.push((format!("the output of {arguments:?}"), said));
        }
        output
    }

    fn quell(&mut self, arguments: &[&str]) -> Output {
        let (cli, profile) = (self.fleet.cli().to_owned(), text(self.fleet.profile()));
        self.run(&cli, &[&["--profile", &profile], arguments].concat())
    }

    fn done(&mut self, arguments: &[&str]) -> String {
        let output = self.quell(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", tail(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A token that lets one machine join; it is a secret from now on.
    fn token(&mut self) -> String {
        let token = self.done(&["token", "create", "--uses", "1", "--label", "role=web"]).trim().to_owned();
        let secret = token.parse::<JoinString>().unwrap().secret;
        self.secrets.extend([Secret::text(&token, &[]), Secret::text(&secret, &[])]);
        token
    }

    fn join(&mut self, directory: &Path, name: &str, token: &str) -> bool {
        let agent = Programs::beside_this_one().unwrap().agent;
        self.run(&agent, &["join", "--data-dir", &text(directory), "--name", name, token]).status.success()
    }

    /// A URL that is a secret, in the controller's file for it.
    fn webhook(&mut self, file: &str, url: &str, secrets: &[&str]) {
        let home = format!("webhooks/{file}");
        let path = self.fleet.controller_data().join(&home);
        quell_link::files::create_directory(path.parent().unwrap()).unwrap();
        quell_link::files::write(&path, url.as_bytes()).unwrap();
        let homes = ["webhooks/sent", "webhooks/refused", "webhooks/unreached"];
        self.secrets.extend(secrets.iter().map(|secret| Secret::text(secret, &homes)));
    }

    /// The secret of a TSIG key, in the host's file for it.
    fn tsig_key(&mut self) -> PathBuf {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let bytes: Vec<u8> = (100..132).collect();
        let (path, encoded) = (self.path("failover.secret"), STANDARD.encode(&bytes));
        quell_link::files::write(&path, encoded.as_bytes()).unwrap();
        let printed = format!("{bytes:?}").trim_matches(['[', ']']).as_bytes().to_vec();
        let what = "the secret of the TSIG key".to_owned();
        let homes = vec!["failover.secret".to_owned()];
        self.secrets.push(Secret { what, forms: vec![encoded.into_bytes(), bytes, printed], homes });
        path
    }

    /// The keys of a profile.
    fn profile(&mut self, path: &Path) {
        let profile: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
        let home = path.file_name().unwrap().to_str().unwrap();
        for key in ["key", "signing_key"] {
            let pem = profile.get(key).map(|pem| pem.as_str().unwrap());
            self.secrets.extend(pem.map(|pem| Secret::key(pem, home)));
        }
    }

    /// Everything that anybody is shown.
    fn look_at_everything(&mut self) {
        for kind in KINDS {
            for format in ["json", "wide"] {
                self.done(&["get", kind, "--all", "-o", format]);
            }
            for name in self.done(&["get", kind, "--all", "-o", "name"]).lines() {
                self.quell(&["describe", kind, name]);
            }
        }
        let file = text(&self.path("policies.yaml"));
        for looks in [
            &["events", "-o", "json"][..],
            &["events"],
            &["audit", "export"],
            &["audit", "verify"],
            &["audit", "head"],
            &["why", "queue", "web1", "-o", "json"],
            &["why", "queue", "web1"],
            &["trust", "show", "-o", "json"],
            &["diff", "-f", &file],
            &["-o", "json"],
            &[],
        ] {
            self.done(looks);
        }
        for page in ["/metrics", "/healthz", "/readyz"] {
            let page = (page.to_owned(), http_get(self.fleet.http_port(), page).unwrap().into_bytes());
            self.said.push(page);
        }
    }

    /// Where a secret is that it should not be.
    fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (place, said) in &self.said {
            leaks.extend(self.found_in(said, |_| false).map(|what| format!("{what} is in {place}")));
        }
        for path in files_below(self.scratch.path()) {
            let content = fs::read(&path).unwrap();
            let found = self.found_in(&content, |secret| secret.is_at_home(&path));
            leaks.extend(found.map(|what| format!("{what} is in {}", path.display())));
        }
        leaks
    }

    fn found_in(&self, content: &[u8], may: impl Fn(&Secret) -> bool) -> impl Iterator<Item = &str> {
        let is_in = |form: &Vec<u8>| memchr::memmem::find(content, form).is_some();
        let found = self.secrets.iter().filter(move |secret| !may(secret) && secret.forms.iter().any(is_in));
        found.map(|secret| secret.what.as_str()).collect::<Vec<_>>().into_iter()
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files.extend(files_below(&entry.path())),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The end of what a talkative program said.
fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(2_000)..]).into_owned()
}

#[test]
fn secrets_are_in_their_own_files_and_nowhere_else() {
    let mut office = Office::open();
    let controller = office.fleet.controller_data();
    let (host, stranger) = (office.fleet.agent_data("web1"), office.path("stranger"));
    office.secrets.push(Secret::text(DATABASE, &["web1/agent.toml"]));
    office.secrets.push(Secret::text(FORGED, &[]));

    // A join by a token, one by a token that is spent, and one by a secret that was made up.
    let token = office.token();
    fs::create_dir_all(&host).unwrap();
    let (name_server, was_asked) = name_server();
    let tsig = office.tsig_key();
    let agent_toml = AGENT_TOML.replace("DATABASE\"", &format!("{DATABASE}\""));
    let agent_toml = agent_toml.replace("NAMESERVER", &name_server.to_string()).replace("SECRET_FILE", &text(&tsig));
    fs::write(host.join("agent.toml"), agent_toml).unwrap();
    assert!(office.join(&host, "web1", &token));
    assert!(!office.join(&stranger, "web2", &token));
    let forged = JoinString { secret: FORGED.to_owned(), ..token.parse().unwrap() }.to_string();
    office.secrets.push(Secret::text(&forged, &[]));
    assert!(!office.join(&stranger, "web2", &forged));
    office.token();
    office.fleet.start_agent("web1").unwrap();

    // Messages that arrive, are refused, and reach nobody.
    let chat = Chat::open();
    let away = quell_tests::fleet::free_port().unwrap();
    let url = |port: u16, token: &str| format!("http://quell:{PASSWORD}@127.0.0.1:{port}/hooks/{token}?key={token}");
    office.webhook("sent", &url(chat.port, SENT), &[SENT, PASSWORD]);
    office.webhook("refused", &url(chat.port, REFUSED), &[REFUSED]);
    office.webhook("unreached", &url(away, UNREACHED), &[UNREACHED]);

    // People come and go, with keys of their own.
    let (mira, key) = (office.path("mira.toml"), office.path("mira.key"));
    office.done(&["operator", "create", "mira", "--role", "admin", "--to", &text(&mira)]);
    let signing = NewKey::make("mira").unwrap();
    quell_link::files::write(&key, signing.private.as_bytes()).unwrap();
    fs::write(office.path("mira.pub"), &signing.public).unwrap();
    let public = text(&office.path("mira.pub"));
    office.done(&["trust", "add", "mira", &public, "--namespaces", "quell-policy"]);

    let file = office.path("policies.yaml");
    fs::write(&file, MANIFESTS).unwrap();
    office.done(&["apply", "-f", &text(&file), "--key", &text(&key)]);
    wait_for(
        PATIENT,
        || "nobody was told".to_owned(),
        || (chat.was_asked(SENT) && chat.was_asked(REFUSED)).then_some(()),
    )
    .unwrap();
    wait_for(
        PATIENT,
        || "nothing was restarted".to_owned(),
        || {
            let plans = office.fleet.items("plans", &["--all"]).unwrap();
            plans.iter().any(|plan| plan["steps"][0]["outcome"] == "succeeded").then_some(())
        },
    )
    .unwrap();
    office.done(&["run", "exec", "-l", "role=web", "--set", "argv=[\"/bin/true\"]"]);
    let server = format!("server={name_server}");
    let failover = [
        &["run", "dns.failover", "-l", "role=web", "--wait", "--set", "provider=rfc2136", "--set", &server][..],
        &["--set", "zone=exoticplant.plant", "--set", "record=ns", "--set", "key=failover", "--set", "from=dns1"],
        &["--set", "to=dns2", "--set", r#"values={"dns1":"192.0.2.53","dns2":"192.0.2.54"}"#],
    ];
    let failed = office.quell(&failover.concat());
    assert!(was_asked.try_recv().is_ok(), "the name server was not asked: {}", tail(&failed.stderr));
    office.done(&["operator", "revoke", "mira", "--reason", "she left"]);

    // A stop and a start, and a backup, which holds what the controller holds in the same places.
    office.fleet.stop_controller().unwrap();
    office.fleet.start_controller().unwrap();
    office.fleet.wait_until_online("web1").unwrap();
    let (program, backup) = (Programs::beside_this_one().unwrap().controller, office.path("backup"));
    let made = office.run(&program, &["backup", "--data-dir", &text(&controller), "--to", &text(&backup)]);
    assert!(made.status.success(), "{}", tail(&made.stderr));
    let agent = Programs::beside_this_one().unwrap().agent;
    office.run(&agent, &["check", "--data-dir", &text(&host)]);

    for home in ["controller/authority/ca.key.pem", "web1/identity/key.pem"] {
        let path = files_below(office.scratch.path()).into_iter().find(|path| path.ends_with(home)).unwrap();
        let home = home.split_once('/').unwrap().1;
        office.secrets.push(Secret::key(&fs::read_to_string(path).unwrap(), home));
    }
    let admin = office.fleet.profile().to_owned();
    office.profile(&admin);
    office.profile(&mira);
    office.secrets.push(Secret::key(&signing.private, "mira.key"));
    office.look_at_everything();

    // The search finds what is there to be found: every secret that is kept is at home, and people were told.
    let at_home = |secret: &&Secret| {
        files_below(office.scratch.path()).iter().any(|path| {
            let content = fs::read(path).unwrap();
            secret.is_at_home(path) && secret.forms.iter().any(|form| memchr::memmem::find(&content, form).is_some())
        })
    };
    let lost: Vec<&str> = office
        .secrets
        .iter()
        .filter(|secret| !secret.homes.is_empty() && !at_home(secret))
        .map(|secret| &*secret.what)
        .collect();
    assert!(lost.is_empty(), "these are not where they are kept, so searching for them shows nothing: {lost:?}");
    let log = fs::read_to_string(office.path("quell/controller.log")).unwrap();
    for said in ["the webhook at 127.0.0.1 answered 500", "the webhook at 127.0.0.1 did not answer", "TRACE"] {
        assert!(log.contains(said), "{said}");
    }

    let leaks = office.leaks();
    assert!(leaks.is_empty(), "secrets are where they should not be:\n{}", leaks.join("\n"));
}

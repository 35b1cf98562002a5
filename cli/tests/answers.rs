//! The program against a controller that answers what a test says: long lists, watches, differences, and names that
//! somebody chose to harm whoever reads them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    convert::Infallible,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    pin::Pin,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use jiff::Timestamp;
use quell_link::{
    authority::{self, Authority},
    identity::Peer,
    profile::Profile,
    server::{Gatekeeper, Options, Tls, serve},
};
use quell_wire::v1::{
    ApplyRequest, ApplyResponse, GetRequest, GetResponse, HostView, IncidentView, ManifestChange, ManifestView,
    NoteView, StatusRequest, StatusView, TimelineView,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, BoxStream, Service, http},
    server::{Grpc, NamedService},
    service::Routes,
};
use tonic_prost::ProstCodec;

/// What the controller answers.
#[derive(Default)]
struct Script {
    /// Pages of a list; the token of each is its number.
    pages: Vec<GetResponse>,
    /// What a watch gives; it stays open after that.
    watched: Vec<GetResponse>,
    applied: ApplyResponse,
    status: StatusView,
    /// Tokens that were asked for.
    asked: Mutex<Vec<String>>,
}

impl Script {
    fn page(&self, request: &GetRequest) -> GetResponse {
        self.asked.lock().unwrap().push(request.page_token.clone());
        let number: usize = request.page_token.parse().unwrap_or_default();
        let mut page = self.pages.get(number).cloned().unwrap_or_default();
        if number + 1 < self.pages.len() {
            page.next_page_token = (number + 1).to_string();
        }
        page
    }
}

#[derive(Clone)]
struct Answers(Arc<Script>);

impl NamedService for Answers {
    const NAME: &'static str = "quell.v1.OperatorService";
}

type Never<T> = Pin<Box<dyn Future<Output = Result<T, Infallible>> + Send>>;

impl Service<http::Request<Body>> for Answers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Never<http::Response<Body>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let script = Arc::clone(&self.0);
        Box::pin(async move {
            let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let answer = match call.as_str() {
                "Get" => {
                    let get = tower::service_fn(move |request: Request<GetRequest>| {
                        let page = script.page(request.get_ref());
                        async move { Ok::<_, Status>(Response::new(page)) }
                    });
                    Grpc::new(ProstCodec::default()).unary(get, request).await
                }
                "Apply" => {
                    let apply = tower::service_fn(move |_: Request<ApplyRequest>| {
                        let answer = script.applied.clone();
                        async move { Ok::<_, Status>(Response::new(answer)) }
                    });
                    Grpc::new(ProstCodec::default()).unary(apply, request).await
                }
                "Status" => {
                    let status = tower::service_fn(move |_: Request<StatusRequest>| {
                        let answer = script.status.clone();
                        async move { Ok::<_, Status>(Response::new(answer)) }
                    });
                    Grpc::new(ProstCodec::default()).unary(status, request).await
                }
                "Watch" => {
                    let watch = tower::service_fn(move |_: Request<GetRequest>| {
                        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
                        for list in &script.watched {
                            sender.send(Ok(list.clone())).unwrap();
                        }
                        // The sender lives on: a watch ends when its reader goes.
                        std::mem::forget(sender);
                        let lists: BoxStream<GetResponse> = Box::pin(UnboundedReceiverStream::new(receiver));
                        let answer: BoxFuture<Response<BoxStream<GetResponse>>, Status> =
                            Box::pin(async move { Ok(Response::new(lists)) });
                        answer
                    });
                    Grpc::new(ProstCodec::default()).server_streaming(watch, request).await
                }
                other => Status::unimplemented(other.to_owned()).into_http(),
            };
            Ok(answer)
        })
    }
}

/// Everybody is welcome and may do everything.
struct Open;

impl Gatekeeper for Open {
    fn admit(&self, _: &Peer) -> Result<(), String> {
        Ok(())
    }

    fn roles(&self, _: &str) -> Vec<String> {
        vec!["admin".to_owned()]
    }
}

struct Controller {
    script: Arc<Script>,
    profile: PathBuf,
    _scratch: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Controller {
    fn start(script: Script) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let authority = Arc::new(Authority::create(&scratch.path().join("ca"), "i-1", now).unwrap());
        let script = Arc::new(script);
        let tls = Tls::new(Arc::clone(&authority), vec!["127.0.0.1".to_owned()], now).unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Routes::new(Answers(Arc::clone(&script)));
        runtime.spawn(serve(listener, tls, routes, Arc::new(Open), Options::default(), CancellationToken::new()));

        let (key, csr) = authority::new_key().unwrap();
        let issued = authority.issue_operator(&csr, "ghammer", now, Duration::from_secs(3600)).unwrap();
        let profile = scratch.path().join("profile.toml");
        Profile::new("ghammer", "i-1", vec![address], &authority.roots(), &issued.chain, key.serialize_pem())
            .save(&profile)
            .unwrap();
        Self { script, profile, _scratch: scratch, _runtime: runtime }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quell"));
        command.arg("--profile").arg(&self.profile).args(arguments).env_remove("RUST_LOG").env_remove("NO_COLOR");
        command
    }

    fn quell(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn lines(&self, arguments: &[&str]) -> String {
        let output = self.quell(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn incident(number: usize, summary: &str) -> IncidentView {
    IncidentView {
        id: format!("inc-{number}"),
        problem: "order-backlog".to_owned(),
        target: "planthost1".to_owned(),
        state: "open".to_owned(),
        severity: "page".to_owned(),
        summary: summary.to_owned(),
        opened_at: "2026-11-22T10:00:00Z".to_owned(),
        ..IncidentView::default()
    }
}

fn incidents(numbers: std::ops::Range<usize>) -> GetResponse {
    let summary = "orders wait ".repeat(50);
    GetResponse { incidents: numbers.map(|number| incident(number, &summary)).collect(), ..GetResponse::default() }
}

#[test]
fn a_list_longer_than_a_message_is_whole() {
    let pages = (0..6).map(|page| incidents(page * 1_000..(page + 1) * 1_000)).collect();
    let controller = Controller::start(Script { pages, ..Script::default() });
    let json = controller.lines(&["get", "incidents", "--all", "-o", "json"]);
    assert!(json.len() > 4 << 20, "{} bytes", json.len());
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let items = value["items"].as_array().unwrap();
    assert_eq!((items.len(), items[5_999]["id"].as_str()), (6_000, Some("inc-5999")));
    assert_eq!(value.as_object().unwrap().len(), 1, "pages do not show");
    assert_eq!(*controller.script.asked.lock().unwrap(), ["", "1", "2", "3", "4", "5"]);
}

#[test]
fn a_controller_that_repeats_a_page_is_an_error_and_no_endless_list() {
    let stuck = GetResponse { next_page_token: "0".to_owned(), ..incidents(0..1) };
    let controller = Controller::start(Script { pages: vec![stuck], ..Script::default() });
    let output = controller.quell(&["get", "incidents"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("same page"));
}

#[test]
fn a_watch_prints_each_list_when_it_is_whole() {
    let cut = GetResponse { next_page_token: "1".to_owned(), ..incidents(0..2) };
    let watched = vec![cut, incidents(2..3), incidents(7..8), GetResponse::default()];
    let controller = Controller::start(Script { watched, ..Script::default() });
    let mut child =
        controller.command(&["get", "incidents", "--watch", "-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let seen: Vec<Vec<String>> = lines
        .take(3)
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            value["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
        })
        .collect();
    assert_eq!(seen, [vec!["inc-0", "inc-1", "inc-2"], vec!["inc-7"], vec![]]);
    assert!(child.try_wait().unwrap().is_none(), "it goes on until it is interrupted");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What processes, files and logs of a host can be called.
const HOSTILE: [&str; 5] = [
    "\u{1b}]0;owned\u{7}\u{1b}[2J",
    "a\nplanthost9  online",
    "exe\u{202e}gpj.\u{2066}",
    "\u{9b}31m\r\u{8}\u{7f}",
    "zero\u{200b}width\u{feff}",
];

fn is_obeyed(character: char) -> bool {
    (character.is_control() && character != '\n')
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[test]
fn what_hosts_call_their_things_is_shown_and_never_obeyed() {
    let text = HOSTILE.join(" ");
    let host = HostView {
        name: text.clone(),
        state: text.clone(),
        labels: [(text.clone(), text.clone())].into(),
        agent_version: text.clone(),
        ..HostView::default()
    };
    let story = TimelineView { text: text.clone(), at: text.clone(), ..TimelineView::default() };
    let note = NoteView { text: text.clone(), who: text.clone(), at: text.clone() };
    let incident = IncidentView {
        target: text.clone(),
        resolution: Some(text.clone()),
        timeline: vec![story],
        notes: vec![note],
        ..incident(1, &text)
    };
    let list = GetResponse { hosts: vec![host], ..GetResponse::default() };
    let hosts = Controller::start(Script { pages: vec![list.clone()], watched: vec![list], ..Script::default() });
    let list = GetResponse { incidents: vec![incident.clone()], ..GetResponse::default() };
    let status = StatusView { incidents: vec![incident], warnings: vec![text.clone()], ..StatusView::default() };
    let incidents = Controller::start(Script { pages: vec![list], status, ..Script::default() });
    for (controller, kind) in [(&hosts, "hosts"), (&incidents, "incidents")] {
        for format in ["table", "wide", "json", "yaml", "name"] {
            for call in [vec!["get", kind, "-o", format], vec!["describe", kind, "x", "-o", format]] {
                let shown = controller.lines(&call);
                assert!(!shown.contains(is_obeyed), "{call:?}: {shown:?}");
                assert!(
                    !shown.lines().any(|line| line.starts_with("planthost9")),
                    "{call:?}: a line of its own: {shown}"
                );
            }
        }
    }
    let overview = incidents.lines(&[]);
    assert!(!overview.contains(is_obeyed) && overview.contains("\\u{1b}"), "{overview:?}");
    let json: serde_json::Value = serde_json::from_str(&hosts.lines(&["get", "hosts", "-o", "json"])).unwrap();
    assert_eq!(json["items"][0]["name"], text.as_str(), "programs get what it is");

    let mut child = hosts.command(&["get", "hosts", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let table: Vec<String> = lines.by_ref().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    assert!(table.len() > 1 && !table.join("\n").contains(is_obeyed), "{table:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

const CONTACT: &str =
    "apiVersion: quell/v1\nkind: Contact\nmetadata: { namespace: plants, name: on-call }\nspec:\n  via: [log]\n";
const CALENDAR: &str = "apiVersion: quell/v1\nkind: Calendar\nmetadata: { namespace: plants, name: hours }\nspec:\n  \
                        timeZone: UTC\n  open:\n    - { days: mon-fri, from: '09:00', to: '17:00' }\n";

fn change(change: &str, kind: &str, name: &str) -> ManifestChange {
    ManifestChange {
        change: change.to_owned(),
        kind: kind.to_owned(),
        namespace: "plants".to_owned(),
        name: name.to_owned(),
        digest: String::new(),
    }
}

#[test]
fn a_difference_shows_the_text_and_what_became_looser() {
    let in_force = ManifestView {
        kind: "Calendar".to_owned(),
        namespace: "plants".to_owned(),
        name: "hours".to_owned(),
        digest: String::new(),
        yaml: CALENDAR.to_owned(),
    };
    let applied = ApplyResponse {
        changes: vec![change("changed", "Calendar", "hours"), change("created", "Contact", "on-call")],
        ..ApplyResponse::default()
    };
    let pages = vec![GetResponse { manifests: vec![in_force], ..GetResponse::default() }];
    let controller = Controller::start(Script { pages, applied, ..Script::default() });
    let file = controller.profile.with_file_name("new.yaml");
    std::fs::write(&file, format!("{}---\n{CONTACT}", CALENDAR.replace("17:00", "22:00"))).unwrap();
    let file = file.to_str().unwrap();

    let text = controller.lines(&["diff", "-f", file]);
    assert!(
        text.contains("-    to: \"17:00\"\n+    to: \"22:00\"\n") || text.contains("+      to: \"22:00\"\n"),
        "{text}"
    );
    assert!(text.contains("looser: open.mon: 09:00-17:00 → 09:00-22:00\n"), "{text}");
    assert!(text.contains("created   Contact plants/on-call\n--- /dev/null\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour where nobody sees it: {text:?}");
    assert_eq!(controller.quell(&["diff", "-f", file, "--exit-code"]).status.code(), Some(10));

    let coloured = controller.command(&["diff", "-f", file]).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(String::from_utf8(coloured.stdout).unwrap().contains("\u{1b}[32m+"));
    let plain = controller.command(&["diff", "-f", file]).env("NO_COLOR", "1").output().unwrap();
    assert!(!String::from_utf8(plain.stdout).unwrap().contains('\u{1b}'));

    let json: serde_json::Value = serde_json::from_str(&controller.lines(&["diff", "-f", file, "-o", "json"])).unwrap();
    assert_eq!(json["changes"][0]["looser"][0]["field"], "open.mon");
    assert!(json["changes"][0]["diff"].as_str().unwrap().contains("+++ Calendar plants/hours (new)"));
    assert_eq!(json["changes"][1]["looser"], serde_json::json!([]));
}

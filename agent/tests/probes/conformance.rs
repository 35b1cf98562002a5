//! What every kind must keep: declared fields of declared types, all of them; an end in time; a failure that is told.

use std::{collections::BTreeSet, fs, time::Duration};

use quell_agent::probes::{Attempt, KINDS, Probe as _, host::Host, streak::Streak};
use quell_model::{
    probe::{FieldType, ProbeKind, ProbeSpec, Reach, fields},
    value::{Fields, Value},
};

use crate::{
    dns::{self, Answer},
    world::{ALLOW, PATIENT, Sleeper, answering, closed, context, judged, probe, silent},
};

/// A kind in a world where it succeeds, where it fails, and where nobody answers it.
struct Case {
    /// Looked at twice: some fields need a difference.
    good: Option<ProbeSpec>,
    bad: ProbeSpec,
    hanging: Option<ProbeSpec>,
}

const HTTP_OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready";
const HTTP_BAD: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

fn http(address: std::net::SocketAddr) -> ProbeSpec {
    ProbeSpec::Http { url: format!("http://{address}/health"), status: None, body: Some("ready".to_owned()) }
}

fn shell(script: &str, parse: Option<&str>) -> ProbeSpec {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    ProbeSpec::Command { argv, parse: parse.map(str::to_owned) }
}

fn log(path: &std::path::Path) -> ProbeSpec {
    ProbeSpec::LogMatch {
        path: path.to_owned(),
        pattern: r"Error #(?<error>\d+)".to_owned(),
        before: Some(r"Processing Order (?<order>\d+)".to_owned()),
        window: 100,
    }
}

async fn case(kind: ProbeKind, dir: &std::path::Path, pid: u32) -> Case {
    let missing = dir.join("missing");
    match kind {
        ProbeKind::Http => Case {
            good: Some(http(answering(HTTP_OK).await)),
            bad: http(answering(HTTP_BAD).await),
            hanging: Some(http(silent().await)),
        },
        ProbeKind::Tcp => Case {
            good: Some(ProbeSpec::Tcp { address: silent().await.to_string() }),
            bad: ProbeSpec::Tcp { address: closed().await.to_string() },
            hanging: None,
        },
        // No authority of the host has signed the certificate of a test: what is seen of it is told all the same.
        ProbeKind::Tls => Case {
            good: None,
            bad: ProbeSpec::Tls { address: tls_server().await.to_string(), name: Some("localhost".to_owned()) },
            hanging: Some(ProbeSpec::Tls { address: silent().await.to_string(), name: None }),
        },
        ProbeKind::Dns => Case {
            good: Some(dns::spec(dns::serve(Answer::Soa(2026)).await, "SOA", None)),
            bad: dns::spec(dns::serve(Answer::ServFail).await, "SOA", None),
            hanging: Some(dns::spec(dns::serve(Answer::Nothing).await, "A", Some(Reach::Tcp(1)))),
        },
        ProbeKind::Process => Case {
            good: Some(ProbeSpec::Process { name: None, command: Some(format!("^sleep 100{pid}$")) }),
            bad: ProbeSpec::Process { name: Some("no-such-process-at-all".to_owned()), command: None },
            hanging: None,
        },
        ProbeKind::Service => Case {
            good: Some(ProbeSpec::Service { name: "up".to_owned() }),
            bad: ProbeSpec::Service { name: "broken".to_owned() },
            hanging: None,
        },
        ProbeKind::LogMatch => {
            let path = dir.join("order_processing.log");
            fs::write(&path, "Processing Order 4\nError Processing Order. Error #12").unwrap();
            Case { good: Some(log(&path)), bad: log(&missing), hanging: None }
        }
        ProbeKind::File => {
            let path = dir.join("counter");
            fs::write(&path, "16\n").unwrap();
            let file = |path: &std::path::Path| ProbeSpec::File { path: path.to_owned(), parse: None };
            Case { good: Some(file(&path)), bad: file(&missing), hanging: None }
        }
        ProbeKind::Command => Case {
            good: Some(shell("echo dns1", Some("^(?<active>dns[12])$"))),
            bad: shell("echo no >&2; exit 3", None),
            hanging: Some(shell("sleep 60", None)),
        },
        ProbeKind::Host => panic!("the host samples are not assigned"),
    }
}

async fn tls_server() -> std::net::SocketAddr {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { drop(acceptor.accept(stream).await) });
        }
    });
    address
}

/// Every field is declared, and of the type that is declared.
fn check(spec: &ProbeSpec, sample: &Fields) {
    for (name, value) in sample {
        let declared = spec.field_type(name).unwrap_or_else(|| panic!("{} has no field {name}", spec.kind()));
        assert!(fits(declared, value), "{}: {name} is {value}, declared {declared:?}", spec.kind());
    }
}

fn fits(declared: FieldType, value: &Value) -> bool {
    match declared {
        FieldType::Number => value.number().is_some(),
        FieldType::Text => value.text().is_some(),
        FieldType::Flag => value.flag().is_some(),
        FieldType::Captured => value.flag().is_none(),
    }
}

#[tokio::test]
async fn every_kind_of_the_list_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let pid = std::process::id();
    let _child = Sleeper::start(&format!("100{pid}"));
    let config = format!(
        "{ALLOW}\n[[service]]\nname = \"up\"\nmanager = \"command\"\nstart = [\"/bin/sleep\", \"1000\"]\n\
         [[service]]\nname = \"broken\"\nmanager = \"command\"\nstart = [\"/bin/sh\", \"-c\", \"sleep 0.3; exit 1\"]\n"
    );
    let context = context(&config, dir.path()).await;
    let up = context.managers.find("up").unwrap();
    up.start(PATIENT).await.unwrap();
    let broken = context.managers.find("broken").unwrap();
    // Whether its start counts as good depends on how soon it ends; that it ends is what matters.
    let _ = broken.start(PATIENT).await;
    let mut status = broken.watch();
    let ended = status.wait_for(|status| status.state != quell_agent::managers::State::Active);
    tokio::time::timeout(PATIENT, ended).await.unwrap().unwrap();

    for kind in KINDS {
        let kind = kind.kind;
        let case = case(kind, dir.path(), pid).await;
        let mut seen = BTreeSet::new();
        if let Some(spec) = &case.good {
            let mut probe = probe(spec, &context);
            let (first, _) = judged(probe.attempt(PATIENT).await);
            let attempt = probe.attempt(PATIENT).await;
            let (second, _) = judged(attempt.clone());
            assert!(first && second, "{kind}: {attempt:?}");
            let sample = Streak::default().count(attempt);
            check(spec, &sample);
            seen.extend(sample.into_keys());
            spec.captured().iter().for_each(|name| assert!(seen.contains(name), "{kind} did not capture {name}"));
        }
        let mut failing = probe(&case.bad, &context);
        let attempt = failing.attempt(PATIENT).await;
        assert!(!judged(attempt.clone()).0, "{kind}: {attempt:?}");
        let sample = Streak::default().count(attempt);
        check(&case.bad, &sample);
        assert!(!sample["error"].text().unwrap().is_empty(), "{kind} fails without a reason");
        seen.extend(sample.into_keys());
        for declared in fields(kind) {
            assert!(seen.contains(declared.name), "{kind} never has {}", declared.name);
        }
        if let Some(spec) = &case.hanging {
            let limit = Duration::from_millis(200);
            let attempt = tokio::time::timeout(PATIENT, probe(spec, &context).attempt(limit)).await.unwrap();
            assert!(!judged(attempt).0, "{kind} succeeds without an answer");
        }
    }
    up.stop(PATIENT).await.unwrap();
}

#[test]
fn every_kind_that_a_policy_can_name_is_in_the_list_once() {
    let listed: Vec<_> = KINDS.iter().map(|kind| kind.kind).collect();
    let wanted: Vec<_> = ProbeKind::ALL.into_iter().filter(|kind| *kind != ProbeKind::Host).collect();
    assert_eq!(listed, wanted);
}

#[tokio::test]
async fn the_host_samples_have_every_declared_field() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("app.log"), vec![0; 810]).unwrap();
    let mount = format!("[[mount]]\npath = \"{}\"\ncapacity = \"1000B\"\n", dir.path().display());
    let context = context(&mount, dir.path()).await;
    context.clock.learn(jiff::Timestamp::now().as_millisecond() - 5000, std::time::Instant::now());
    let sample = Streak::default().count(Host::new(&context).attempt(PATIENT).await);
    assert_eq!(sample["ok"], true.into());
    let offset = sample["clock_offset"].number().unwrap();
    assert!((4.9..20.0).contains(&offset), "{offset}");
    assert!(sample[&format!("disks[{}].used_percent", dir.path().display())].number().unwrap() >= 81.0);
    let common = ["ok", "failures", "successes", "error"];
    for (name, value) in sample.iter().filter(|(name, _)| !common.contains(&name.as_str())) {
        let spec = fields(ProbeKind::Host).iter().find(|spec| spec.name == family(name));
        let spec = spec.unwrap_or_else(|| panic!("the host has no field {name}"));
        assert!(fits(spec.kind, value), "{name} is {value}");
    }
    let seen: BTreeSet<String> = sample.keys().map(|name| family(name)).collect();
    for declared in fields(ProbeKind::Host) {
        // A kernel without pressure information and a host without a network are hosts, too.
        let may_lack = declared.name.starts_with("pressure.") || declared.name.starts_with("network");
        assert!(may_lack || seen.contains(declared.name), "the host samples lack {}", declared.name);
    }
}

/// `disks[/var].used_percent` is declared as `disks[].used_percent`. A mount point may hold brackets itself.
fn family(name: &str) -> String {
    match (name.find('['), name.rfind(']')) {
        (Some(open), Some(close)) => format!("{}{}", &name[..=open], &name[close..]),
        _ => name.to_owned(),
    }
}

#[tokio::test]
async fn what_the_host_does_not_allow_is_not_judged() {
    let dir = tempfile::tempdir().unwrap();
    let context = context("", dir.path()).await;
    let address = closed().await;
    let specs = [
        http(address),
        ProbeSpec::Tcp { address: address.to_string() },
        ProbeSpec::Tls { address: address.to_string(), name: None },
        dns::spec(address, "A", None),
        shell("true", None),
    ];
    for spec in specs {
        let attempt = probe(&spec, &context).attempt(PATIENT).await;
        let Attempt::Unjudged { reason, fields } = attempt else { panic!("{} was judged: {attempt:?}", spec.kind()) };
        assert!(reason.contains("agent.toml") && fields.is_empty(), "{}: {reason}", spec.kind());
        let sample = Streak::default().count(Attempt::Unjudged { reason, fields });
        assert!(!sample.contains_key("ok") && !sample.contains_key("failures"));
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_bodies_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(ALLOW, dir.path()).await;
    let target = answering(HTTP_OK).await;
    let text = format!("HTTP/1.1 302 Found\r\nlocation: http://{target}/\r\ncontent-length: 5\r\n\r\nready");
    let redirect = answering(text.leak().as_bytes()).await;
    let (ok, fields) = judged(probe(&http(redirect), &context).attempt(PATIENT).await);
    assert!(!ok);
    assert_eq!(fields["status"], 302.0.into());

    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(300_000, b'x');
    endless.extend(b"ready");
    let endless = answering(endless.leak()).await;
    let (ok, fields) = judged(probe(&http(endless), &context).attempt(PATIENT).await);
    assert!(!ok);
    assert_eq!(fields["body_matches"], false.into());
}

#[tokio::test]
async fn a_program_is_killed_with_everything_it_started_and_its_output_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(ALLOW, dir.path()).await;
    let marker = format!("31.{:07}", std::process::id());
    let mut hanging = probe(&shell(&format!("sleep {marker} & sleep {marker}; true"), None), &context);
    assert!(!judged(hanging.attempt(Duration::from_millis(300)).await).0);
    let left = ProbeSpec::Process { name: None, command: Some(format!("^sleep {}$", marker.replace('.', r"\."))) };
    let mut left = probe(&left, &context);
    let start = std::time::Instant::now();
    while judged(left.attempt(PATIENT).await).0 {
        assert!(start.elapsed() < PATIENT, "the program's child was left behind");
        tokio::task::yield_now().await;
    }
    let (ok, fields) =
        judged(probe(&shell("head -c 1000000 /dev/zero | tr '\\0' x", None), &context).attempt(PATIENT).await);
    assert!(ok);
    assert!(fields["value"].text().unwrap().len() <= 4096);
}

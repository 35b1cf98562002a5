use std::os::unix::fs::PermissionsExt as _;

use quell_engine::{
    id::{IncidentId, MessageId},
    state::{Message, MessageState},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::notify::authorities;

fn notice() -> Notice {
    Notice {
        message: Message {
            id: MessageId(3),
            contact: "plants/developers".parse().unwrap(),
            subject: "orders wait".to_owned(),
            body: "Error #12".to_owned(),
            severity: Severity::Page,
            incident: Some(IncidentId(42)),
            created_at: "2026-11-22T10:00:00Z".parse().unwrap(),
            waits_for_log: None,
            logs_awaited: 0,
            state: MessageState::Waiting,
            attempts: 1,
            next_attempt: None,
        },
        installation: "0b5e".to_owned(),
    }
}

fn webhook(allowed: &[&str]) -> Webhook {
    let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
    Webhook::new(Path::new("/nonexistent"), Rules::new(allowed), authorities(None).unwrap(), Duration::from_secs(2))
}

/// Answers one request, and returns it.
async fn receiver(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("attempt") {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                length => request.extend_from_slice(&buffer[..length]),
            }
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, task)
}

#[tokio::test]
async fn a_notice_is_posted_once_with_an_identifier_to_tell_repetitions_by() {
    let (port, receiver) = receiver("HTTP/1.1 204 No Content\r\n\r\n").await;
    webhook(&["127.0.0.0/8"]).post(&format!("http://127.0.0.1:{port}/hook"), &notice()).await.unwrap();
    let request = receiver.await.unwrap();
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("idempotency-key: 0b5e/msg-3"), "{request}");
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["incident"], "0b5e/inc-42");
    assert_eq!(body["severity"], "page");
    assert_eq!(body["subject"], "orders wait");
}

#[tokio::test]
async fn a_name_that_resolves_to_a_forbidden_address_is_refused_before_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for host in ["localhost", "127.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"] {
        let error = webhook(&[]).post(&format!("http://{host}:{port}/secret"), &notice()).await.unwrap_err();
        let words = error.to_string();
        assert!(matches!(error, Error::Address { .. }), "{words}");
        assert!(words.contains("notify.allow_addresses") && !words.contains("secret"), "{words}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "somebody connected");
}

#[tokio::test]
async fn redirects_are_not_followed_and_refusals_are_failures() {
    for (answer, expected) in [
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 302),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", 500),
    ] {
        let (port, _receiver) = receiver(answer).await;
        let result = webhook(&["127.0.0.0/8"]).post(&format!("http://127.0.0.1:{port}/"), &notice()).await;
        assert!(matches!(result, Err(Error::Answer { status, .. }) if status == expected), "{result:?}");
    }
}

#[tokio::test]
async fn errors_do_not_tell_what_is_secret_in_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://user:hunter2@127.0.0.1:{port}/services/T0K3N?key=s3cr3t");
    let words = webhook(&["127.0.0.0/8"]).post(&url, &notice()).await.unwrap_err().to_string();
    for secret in ["hunter2", "T0K3N", "s3cr3t"] {
        assert!(!words.contains(secret), "{words}");
    }
    let words = webhook(&[]).post("ftp://user:hunter2@example.org/T0K3N", &notice()).await.unwrap_err().to_string();
    assert!(words.contains("http://") && !words.contains("hunter2") && !words.contains("T0K3N"), "{words}");
}

#[tokio::test]
async fn a_secret_url_is_read_from_its_file_at_each_delivery_and_is_in_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let webhook = Webhook { urls: directory.path().join(DIRECTORY), ..webhook(&["127.0.0.0/8"]) };
    let channel = Channel::SecretWebhook { file: "chat".parse().unwrap() };
    let notice = notice();
    let missing = webhook.deliver(&channel, &notice).await.unwrap_err().to_string();
    assert!(missing.contains("webhooks/chat") && missing.contains("write the URL into that file"), "{missing}");

    files::create_directory(&webhook.urls).unwrap();
    let file = webhook.urls.join("chat");
    std::fs::write(&file, "http://127.0.0.1:1/T0K3N").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = webhook.deliver(&channel, &notice).await.unwrap_err().to_string();
    assert!(exposed.contains("chmod 600"), "{exposed}");
    for content in [&b"T0K3N"[..], b"T0K3N:x", b"http://T0K3N T0K3N", b"T0K3N \xff", b"http://127.0.0.1:1/T0K3N"] {
        files::write(&file, content).unwrap();
        let words = webhook.deliver(&channel, &notice).await.unwrap_err().to_string();
        assert!(!words.contains("T0K3N"), "{words}");
    }

    let (port, receiver) = receiver("HTTP/1.1 204 No Content\r\n\r\n").await;
    files::write(&file, format!("http://127.0.0.1:{port}/T0K3N\n").as_bytes()).unwrap();
    webhook.deliver(&channel, &notice).await.unwrap();
    assert!(receiver.await.unwrap().starts_with("POST /T0K3N HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_receiver_that_never_answers_costs_the_configured_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rules = Rules::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let webhook =
        Webhook::new(Path::new("/nonexistent"), rules, authorities(None).unwrap(), Duration::from_millis(100));
    let result = webhook.post(&format!("http://127.0.0.1:{port}/"), &notice()).await;
    assert!(matches!(result, Err(Error::Request { .. })), "{result:?}");
    drop(listener);
}

/// Takes one connection over TLS with a certificate of an authority of its own, whose PEM it writes into a file.
async fn receiver_of_the_shop(ca_file: &std::path::Path) -> (u16, tokio::task::JoinHandle<Option<String>>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(ca_file, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
        let mut request = vec![0; 16 << 10];
        let length = stream.read(&mut request).await.ok()?;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
        stream.shutdown().await.ok()?;
        String::from_utf8(request[..length].to_vec()).ok()
    });
    (port, task)
}

#[tokio::test]
async fn a_receiver_of_the_shops_own_authority_is_believed_when_its_file_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    for (believed, roots) in [(false, None), (true, Some(ca_file.as_path()))] {
        let (port, receiver) = receiver_of_the_shop(&ca_file).await;
        let rules = Rules::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let webhook = Webhook::new(directory.path(), rules, authorities(roots).unwrap(), Duration::from_secs(2));
        let result = webhook.post(&format!("https://127.0.0.1:{port}/hook"), &notice()).await;
        assert_eq!(result.is_ok(), believed, "{result:?}");
        assert_eq!(receiver.await.unwrap().is_some_and(|request| request.starts_with("POST /hook ")), believed);
    }
}

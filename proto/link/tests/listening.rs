//! The listening side under stress: strangers, half-open handshakes, revocation, rotation, limits, stopping.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Controller, Session, call};
use jiff::Timestamp;
use quell_link::{client, server::Options};
use quell_wire::v1::{AgentMessage, LogTail, agent_message};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_revoked_host_is_cut_within_a_second_and_told_why_when_it_returns() {
    let controller = Controller::start().await;
    let identity = controller.join("planthost1").await;
    let channel = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let mut session = Session::open(channel).await.unwrap();
    session.echo(1).await.unwrap();
    let other = controller.join("planthost2").await;
    let mut other = Session::open(client::connect_agent(&controller.addresses(), &other).await.unwrap()).await.unwrap();

    controller.revoke("planthost1");
    let since = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(1), session.down.message()).await;
    assert!(ended.expect("cut within a second").is_err(), "cut after {:?}", since.elapsed());

    other.echo(1).await.unwrap();
    let again = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let status = Session::open(again).await.err().unwrap();
    assert_eq!(status.message(), "host planthost1 was revoked");
    controller.stop().await;
}

#[tokio::test]
async fn the_controllers_certificate_changes_while_streams_live() {
    let controller = Controller::start().await;
    let identity = controller.join("planthost1").await;
    let channel = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let mut session = Session::open(channel).await.unwrap();
    session.echo(1).await.unwrap();
    let before = shown_certificate(&controller).await;
    controller.tls.rotate(Timestamp::now()).unwrap();
    assert_ne!(shown_certificate(&controller).await, before);
    session.echo(2).await.unwrap();
    let again = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    Session::open(again).await.unwrap().echo(1).await.unwrap();
    controller.stop().await;
}

/// The certificate that the controller shows to anybody.
async fn shown_certificate(controller: &Controller) -> Vec<u8> {
    let stream = strange_handshake(controller, &[&rustls::version::TLS13]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// A handshake by somebody who only trusts the CA.
async fn strange_handshake(
    controller: &Controller,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(controller.authority.roots().remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(controller.address).await?;
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn only_tls_1_3_is_spoken() {
    let controller = Controller::start().await;
    strange_handshake(&controller, &[&rustls::version::TLS13]).await.unwrap();
    let error = strange_handshake(&controller, &[&rustls::version::TLS12]).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    controller.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_with_the_reason() {
    let (ours, other) = (Controller::start().await, Controller::start().await);
    // An operator of the other installation who trusts ours.
    let mut profile = other.operator("eve", &["admin"], HOUR);
    let own = ours.operator("ada", &["admin"], HOUR);
    (profile.roots, profile.addresses) = (own.roots, own.addresses);
    let reason = match profile.connect().await {
        Err(error) => error.to_string(),
        Ok(channel) => {
            let status = call(&channel, "/quell.v1.OperatorService/Get").await.unwrap_err();
            client::explain(&status).unwrap_or_else(|| format!("{status:?}"))
        }
    };
    assert!(reason.contains("issued by another installation"), "{reason}");
    ours.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn an_agents_certificate_does_not_make_a_controller() {
    let controller = Controller::start().await;
    controller.join("planthost1").await;
    let directory = controller.directory("planthost1");
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    use rustls_pki_types::pem::PemObject as _;
    let mut chain: Vec<_> =
        rustls_pki_types::CertificateDer::pem_slice_iter(&read("chain.pem")).map(Result::unwrap).collect();
    chain.extend(controller.authority.roots());
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(&read("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let impostor = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        assert!(acceptor.accept(stream).await.is_err(), "nobody may take it for a controller");
    });
    let mut join = controller.token(1);
    join.addresses = vec![address];
    let error = client::join(&join, "planthost2".parse().unwrap(), &controller.directory("x")).await.unwrap_err();
    assert!(error.to_string().contains("it is not a controller"), "{error}");
    impostor.await.unwrap();
    controller.stop().await;
}

#[tokio::test]
async fn five_thousand_half_open_handshakes_do_not_delay_an_honest_agent() {
    // Both ends are in this process.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(limit.maximum.is_none_or(|most| most > 6_000), "6,000 descriptors are needed: ulimit -Hn");
    let options = Options { handshake_timeout: Duration::from_secs(60), drain: Duration::ZERO, ..Options::default() };
    let controller = Controller::start_with(options).await;
    let identity = controller.join("planthost1").await;
    let mut stuck = Vec::new();
    for number in 0..5_000 {
        let mut stream = TcpStream::connect(controller.address).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a handshake, and then nothing.
            stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.unwrap();
        }
        stuck.push(stream);
    }
    let since = Instant::now();
    let channel = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    Session::open(channel).await.unwrap().echo(1).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    // The oldest gave way: their sockets are closed.
    let mut buffer = [0; 16];
    let first = tokio::time::timeout(Duration::from_secs(5), stuck[0].read(&mut buffer)).await.expect("closed");
    assert!(matches!(first, Ok(0) | Err(_)), "{first:?}");
    controller.stop().await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    let options = Options { handshake_timeout: Duration::from_millis(100), ..Options::default() };
    let controller = Controller::start_with(options).await;
    let mut stream = TcpStream::connect(controller.address).await.unwrap();
    let mut buffer = [0; 16];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.expect("closed");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    controller.stop().await;
}

#[tokio::test]
async fn a_connection_without_a_certificate_does_not_last() {
    let options = Options { anonymous_lifetime: Duration::from_millis(100), ..Options::default() };
    let controller = Controller::start_with(options).await;
    let mut stream = strange_handshake(&controller, &[&rustls::version::TLS13]).await.unwrap();
    let closed = async {
        let mut buffer = [0; 1024];
        while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("closed");
    controller.stop().await;
}

#[tokio::test]
async fn agents_beyond_the_limit_are_refused_and_operators_still_get_in() {
    let controller = Controller::start_with(Options { agents: 1, drain: Duration::ZERO, ..Options::default() }).await;
    let first = controller.join("planthost1").await;
    let second = controller.join("planthost2").await;
    let mut session =
        Session::open(client::connect_agent(&controller.addresses(), &first).await.unwrap()).await.unwrap();
    session.echo(1).await.unwrap();
    let refused = match client::connect_agent(&controller.addresses(), &second).await {
        Err(_) => true,
        Ok(channel) => Session::open(channel).await.is_err(),
    };
    assert!(refused, "there was room for two");
    let operator = controller.operator("ada", &["admin"], HOUR).connect().await.unwrap();
    let status = call(&operator, "/quell.v1.OperatorService/Get").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    drop(session);
    // The place comes free with the connection.
    loop {
        if let Ok(channel) = client::connect_agent(&controller.addresses(), &second).await
            && Session::open(channel).await.is_ok()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    controller.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_its_stream_and_no_other() {
    let controller = Controller::start().await;
    let identity = controller.join("planthost1").await;
    let channel = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let mut small = Session::open(channel.clone()).await.unwrap();
    let mut large = Session::open(channel).await.unwrap();
    let tail = LogTail { request_id: "x".repeat(quell_link::MESSAGE_BYTES + 1), ..LogTail::default() };
    let message = AgentMessage { sequence: 1, body: Some(agent_message::Body::LogTail(tail)) };
    large.up.send(message).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), large.down.message()).await.expect("ended");
    assert!(!matches!(ended, Ok(Some(_))), "the message was taken: {ended:?}");
    small.echo(1).await.unwrap();
    controller.stop().await;
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let controller = Controller::start().await;
    let channel = controller.operator("ada", &["admin"], HOUR).connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(());
    request.metadata_mut().insert("x-large", "x".repeat(20 * 1024).parse().unwrap());
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static("/quell.v1.OperatorService/Get");
    let status = client.unary(request, path, codec).await.map(|_: tonic::Response<()>| ()).unwrap_err();
    assert_ne!(status.code(), tonic::Code::Unimplemented, "it came through");
    controller.stop().await;
}

#[tokio::test]
async fn stopping_ends_by_its_deadline_whatever_the_peers_do() {
    let options = Options { drain: Duration::from_millis(300), ..Options::default() };
    let controller = Controller::start_with(options).await;
    let identity = controller.join("planthost1").await;
    let channel = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let mut session = Session::open(channel).await.unwrap();
    session.echo(1).await.unwrap();
    // One that never finishes its handshake, and one that never reads.
    let _half_open = TcpStream::connect(controller.address).await.unwrap();
    let _silent = strange_handshake(&controller, &[&rustls::version::TLS13]).await.unwrap();
    let address = controller.address;
    tokio::time::timeout(Duration::from_secs(2), controller.stop()).await.expect("stopped by the deadline");
    assert!(session.down.message().await.is_err());
    assert!(TcpStream::connect(address).await.is_err(), "the port is free");
}

#[tokio::test]
async fn stopping_lets_a_stream_that_ends_finish() {
    let controller = Controller::start_with(Options::default()).await;
    let identity = controller.join("planthost1").await;
    let channel = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let mut session = Session::open(channel).await.unwrap();
    session.echo(1).await.unwrap();
    controller.stop.cancel();
    session.echo(2).await.unwrap();
    drop(session.up);
    assert!(session.down.message().await.unwrap().is_none(), "ended in order");
    tokio::time::timeout(Duration::from_secs(5), controller.task).await.expect("did not wait for more").unwrap();
}

/// Opens a stream and takes it back at once: the cheapest way to make a server work, `CVE-2023-44487`.
fn opened_and_reset(stream: u32) -> Vec<u8> {
    // :method POST, :scheme https, :path /, as the static table of RFC 7541 has them.
    const HEADERS: [u8; 3] = [0x83, 0x87, 0x84];
    const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // END_HEADERS.
    [frame(1, 4, &HEADERS), frame(3, 0, &CANCEL)].concat()
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_delays_nobody() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const AT_ONCE: u32 = 100;
    const MOST: u32 = 100_000;
    let controller = Controller::start().await;
    let identity = controller.join("planthost1").await;
    let channel = client::connect_agent(&controller.addresses(), &identity).await.unwrap();
    let mut honest = Session::open(channel).await.unwrap();

    let stranger = strange_handshake(&controller, &[&rustls::version::TLS13]).await.unwrap();
    let (mut answers, mut flood) = tokio::io::split(stranger);
    let answered = tokio::spawn(async move {
        let mut said = Vec::new();
        // However it ends: what counts is what was said before.
        let _ = answers.read_to_end(&mut said).await;
        said
    });
    flood.write_all(PREFACE).await.unwrap();
    let mut sent = 0;
    let mut rounds = 0;
    while sent < MOST {
        let batch: Vec<u8> = (sent..sent + AT_ONCE).flat_map(|number| opened_and_reset(2 * number + 1)).collect();
        if flood.write_all(&batch).await.and(flood.flush().await).is_err() {
            break;
        }
        sent += AT_ONCE;
        rounds += 1;
        let echo = tokio::time::timeout(Duration::from_secs(1), honest.echo(rounds)).await;
        echo.expect("an honest agent waits").unwrap();
    }
    assert!(sent < MOST, "the connection outlived {sent} resets");
    let said = answered.await.unwrap();
    let calm = 11_u32.to_be_bytes();
    assert!(said.windows(4).any(|code| code == calm), "it was not told to calm down");
    honest.echo(rounds + 1).await.unwrap();
    controller.stop().await;
}

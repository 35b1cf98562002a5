//! A DNS server that answers as a test wants, and what the probe makes of it.

use std::{net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record,
        rdata::{A, SOA},
    },
};
use quell_model::probe::{ProbeSpec, Reach};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

use crate::world::{ALLOW, PATIENT, closed, context, judged, probe, unanswered};

/// How the server answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// Two addresses.
    Addresses,
    /// The start of a zone with this serial number.
    Soa(u32),
    /// NOERROR without a record.
    Empty,
    /// SERVFAIL.
    ServFail,
    /// Over UDP that it is too long; over TCP two addresses.
    Truncated,
    /// Somebody else's answer first, then two addresses.
    Forged,
    /// Nothing at all.
    Nothing,
}

/// A probe of the server.
pub(crate) fn spec(server: SocketAddr, record: &str, reach: Option<Reach>) -> ProbeSpec {
    ProbeSpec::Dns {
        server: server.ip(),
        port: server.port(),
        name: "exoticplant.plant".to_owned(),
        record: record.to_owned(),
        reach,
    }
}

/// Serves over UDP and TCP on one port.
pub(crate) async fn serve(answer: Answer) -> SocketAddr {
    let (udp, tcp) = sockets().await;
    let address = udp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            for reply in replies(&asked, answer, false) {
                udp.send_to(&reply, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let Ok(length) = stream.read_u16().await else { continue };
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            for reply in replies(&Message::from_vec(&query).unwrap(), answer, true) {
                stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        }
    });
    address
}

/// A UDP and a TCP socket with the same port, which takes luck more than once in a while.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

fn replies(asked: &Message, answer: Answer, over_tcp: bool) -> Vec<Vec<u8>> {
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.add_queries(asked.queries.iter().cloned());
    let name = asked.queries[0].name.clone();
    let mut add = |data: RData| {
        reply.add_answer(Record::from_rdata(name.clone(), 60, data));
    };
    let mut addresses = || {
        for last in [9, 10] {
            add(RData::A(A::new(192, 0, 2, last)));
        }
    };
    match answer {
        Answer::Nothing => return Vec::new(),
        Answer::Addresses => addresses(),
        Answer::Soa(serial) => {
            let root = Name::root;
            add(RData::SOA(SOA::new(root(), root(), serial, 1, 1, 1, 1)));
        }
        Answer::Empty => {}
        Answer::ServFail => reply.metadata.response_code = ResponseCode::ServFail,
        Answer::Truncated if !over_tcp => reply.metadata.truncation = true,
        Answer::Truncated => addresses(),
        Answer::Forged => {
            addresses();
            let mut forged = reply.clone();
            forged.metadata.id = asked.metadata.id.wrapping_add(1);
            forged.metadata.response_code = ResponseCode::NXDomain;
            return vec![b"\x00".to_vec(), forged.to_vec().unwrap(), reply.to_vec().unwrap()];
        }
    }
    vec![reply.to_vec().unwrap()]
}

#[tokio::test]
async fn answers_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(ALLOW, dir.path()).await;
    let cases = [
        (Answer::Addresses, true, "NOERROR", "192.0.2.10 192.0.2.9"),
        (Answer::Truncated, true, "NOERROR", "192.0.2.10 192.0.2.9"),
        (Answer::Forged, true, "NOERROR", "192.0.2.10 192.0.2.9"),
        (Answer::Empty, false, "NOERROR", ""),
        (Answer::ServFail, false, "SERVFAIL", ""),
    ];
    for (answer, expected, rcode, records) in cases {
        let attempt = probe(&spec(serve(answer).await, "A", None), &context).attempt(PATIENT).await;
        let (ok, fields) = judged(attempt);
        assert_eq!((ok, &fields["rcode"], &fields["answer"]), (expected, &rcode.into(), &records.into()), "{answer:?}");
        assert_eq!(fields["reachable"], true.into(), "{answer:?}");
    }
    let (_, fields) = judged(probe(&spec(serve(Answer::Soa(7)).await, "SOA", None), &context).attempt(PATIENT).await);
    assert_eq!(fields["serial"], 7.0.into());
}

#[tokio::test]
async fn a_machine_that_refuses_is_there_and_one_that_is_silent_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(ALLOW, dir.path()).await;
    let limit = Duration::from_millis(300);
    let server = serve(Answer::Nothing).await;
    let refusing = Reach::Tcp(closed().await.port());
    let (ok, fields) = judged(probe(&spec(server, "A", Some(refusing)), &context).attempt(limit).await);
    assert_eq!((ok, &fields["reachable"]), (false, &true.into()));
    assert!(!fields.contains_key("rcode"));

    let (nobody, _kept, _listener) = unanswered().await;
    let nobody = Reach::Tcp(nobody.port());
    let (ok, fields) = judged(probe(&spec(server, "A", Some(nobody)), &context).attempt(limit).await);
    assert_eq!((ok, &fields["reachable"]), (false, &false.into()));

    // A server that is not running refuses at once.
    let (ok, fields) = judged(probe(&spec(closed().await, "A", None), &context).attempt(PATIENT).await);
    assert_eq!((ok, &fields["reachable"]), (false, &true.into()));
}

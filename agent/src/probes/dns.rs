//! `dns`: a server answers a query; and when it does not, whether its machine is there at all.
//!
//! Over UDP, once more after half the time-out, and over TCP when the answer was truncated. A server that refuses the
//! `reach` port is reachable: somebody refused. What comes back is believed only from the address asked, with the
//! number and the question that were sent.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{RData, RecordType},
};
use quell_model::{
    probe::{ProbeKind, ProbeSpec, Reach},
    value::Fields,
};
use tokio::net::{TcpStream, UdpSocket};

use super::{Attempt, Boxed, Built, Context, Kind, Probe, address::permit, pattern::captured};
use crate::config::Config;

/// This kind in the list.
pub const KIND: Kind = Kind { kind: ProbeKind::Dns, build };

/// Largest answer over UDP that is taken: no query here asks for more than the classic 512 bytes, servers may send it.
const UDP_BYTES: usize = 4096;

fn build(spec: &ProbeSpec, context: &Context) -> Built {
    let ProbeSpec::Dns { server, port, name, record, reach } = spec else { return None };
    let probe = Dns::new(*server, *port, name, record, reach.as_ref(), &context.config);
    Some(probe.map(|probe| Box::new(probe) as Box<dyn Probe>))
}

struct Dns {
    server: SocketAddr,
    reach: SocketAddr,
    query: Query,
    config: Arc<Config>,
}

impl Dns {
    fn new(
        server: IpAddr,
        port: u16,
        name: &str,
        record: &str,
        reach: Option<&Reach>,
        config: &Arc<Config>,
    ) -> Result<Self, String> {
        let asked = crate::dns::name(name)?;
        let record: RecordType =
            record.to_ascii_uppercase().parse().map_err(|_| format!("{record:?} is not a DNS record type"))?;
        let reach = match reach {
            Some(Reach::Tcp(port)) => *port,
            None => port,
        };
        Ok(Self {
            server: SocketAddr::new(server, port),
            reach: SocketAddr::new(server, reach),
            query: Query::query(asked, record),
            config: Arc::clone(config),
        })
    }

    async fn ask(&self, timeout: Duration) -> Result<Message, String> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(self.query.clone());
        let bytes = message.to_vec().map_err(|error| format!("the query cannot be made: {error}"))?;
        let exchange = async {
            let answer = self.ask_udp(&message, &bytes, timeout / 2).await?;
            if answer.metadata.truncation { self.ask_tcp(&message, &bytes).await } else { Ok(answer) }
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result.map_err(|error| format!("{} does not answer: {error}", self.server)),
            Err(_) => Err(format!("{} does not answer within {timeout:?}", self.server)),
        }
    }

    async fn ask_udp(&self, message: &Message, bytes: &[u8], again_after: Duration) -> io::Result<Message> {
        let local: IpAddr = if self.server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
        let socket = UdpSocket::bind((local, 0)).await?;
        // A connected socket takes datagrams from this address alone, and hears when the port is closed.
        socket.connect(self.server).await?;
        socket.send(bytes).await?;
        let mut buffer = vec![0; UDP_BYTES];
        let mut repeat = std::pin::pin!(tokio::time::sleep(again_after));
        let mut repeated = false;
        loop {
            tokio::select! {
                received = socket.recv(&mut buffer) => {
                    if let Some(answer) = self.accept(message, &buffer[..received?]) {
                        return Ok(answer);
                    }
                }
                () = &mut repeat, if !repeated => {
                    repeated = true;
                    socket.send(bytes).await?;
                }
            }
        }
    }

    async fn ask_tcp(&self, message: &Message, bytes: &[u8]) -> io::Result<Message> {
        let mut stream = TcpStream::connect(self.server).await?;
        let buffer = crate::dns::exchange(&mut stream, bytes).await?;
        self.accept(message, &buffer).ok_or_else(|| io::Error::other("what came is not the answer to the query"))
    }

    /// The answer, when these bytes are one to this query.
    fn accept(&self, asked: &Message, bytes: &[u8]) -> Option<Message> {
        let answer = Message::from_vec(bytes).ok()?;
        let ours = answer.metadata.message_type == MessageType::Response
            && answer.metadata.id == asked.metadata.id
            // A server that fails early may leave out the question.
            && answer.queries.first().is_none_or(|query| *query == self.query);
        ours.then_some(answer)
    }

    /// Whether the machine is there: its port opens, or somebody refuses it.
    async fn is_there(&self, timeout: Duration) -> bool {
        match tokio::time::timeout(timeout, TcpStream::connect(self.reach)).await {
            Ok(Ok(_stream)) => true,
            Ok(Err(error)) => matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset),
            Err(_) => false,
        }
    }
}

impl Probe for Dns {
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt> {
        Box::pin(async move {
            if let Err(refusal) = permit(&self.config.allow, self.server.ip()) {
                return Attempt::not_made(refusal);
            }
            match self.ask(timeout).await {
                Ok(answer) => judge(&answer, &self.query),
                Err(error) => {
                    let reachable = self.is_there(timeout).await;
                    Attempt::bad(error, Fields::from([("reachable".to_owned(), reachable.into())]))
                }
            }
        })
    }
}

fn judge(answer: &Message, query: &Query) -> Attempt {
    let code = answer.metadata.response_code;
    let rcode = match code {
        ResponseCode::Unknown(number) => format!("RCODE{number}"),
        known => format!("{known:?}").to_uppercase(),
    };
    let mut records: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    records.sort();
    let mut fields = Fields::from([
        ("reachable".to_owned(), true.into()),
        ("rcode".to_owned(), rcode.clone().into()),
        ("answer".to_owned(), captured(records.join(" ").as_bytes())),
    ]);
    let serial = answer.answers.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    });
    if let Some(serial) = serial {
        fields.insert("serial".to_owned(), f64::from(serial).into());
    }
    if code != ResponseCode::NoError {
        Attempt::bad(format!("the server answers {rcode}"), fields)
    } else if records.is_empty() {
        Attempt::bad(format!("there is no {} record", query.query_type()), fields)
    } else {
        Attempt::good(fields)
    }
}

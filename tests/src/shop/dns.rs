//! A DNS server that answers for the shop's zone, until it is told to fail.
//!
//! Its directory holds `NAME.log` and, as its fault, `NAME.fault`: `servfail` (answers with an error) or `hang` (does
//! not answer). The fault outlives a restart of the process: some faults do.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr as _,
    time::Duration,
};

use clap::Args;
use hickory_net::runtime::Time;
use hickory_proto::{
    op::{Metadata, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use hickory_server::{
    Server,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tokio::net::{TcpListener, UdpSocket};

use super::files;

/// The zone that it answers for.
const ZONE: &str = "exoticplant.plant.";
/// The address that every name in the zone has: one of the addresses that are set aside for documentation.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// Idle TCP connections are closed after this long.
const IDLE: Duration = Duration::from_secs(5);
/// Bytes buffered for answers over one TCP connection.
const RESPONSE_BUFFER: usize = 16 * 1024;

/// The DNS server's options.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// dns1 or dns2: the name of the log and the fault.
    #[arg(long)]
    pub server: String,
    /// Directory of the log and the fault.
    #[arg(long)]
    pub dir: PathBuf,
    /// Address for UDP and TCP.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where to write the process number.
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
}

/// Runs until the process is stopped.
///
/// # Errors
/// The address is taken or the directory cannot be written.
pub async fn run(options: Options) -> io::Result<()> {
    std::fs::create_dir_all(&options.dir)?;
    let handler = Handler {
        log: options.dir.join(format!("{}.log", options.server)),
        fault: options.dir.join(format!("{}.fault", options.server)),
    };
    let mut server = Server::new(handler);
    server.register_socket(UdpSocket::bind(options.listen).await?);
    server.register_listener(TcpListener::bind(options.listen).await?, IDLE, RESPONSE_BUFFER);
    files::write_pid(options.pid_file.as_deref())?;
    server.block_until_done().await.map_err(io::Error::other)
}

/// Answers queries as the fault file says.
struct Handler {
    log: PathBuf,
    fault: PathBuf,
}

impl Handler {
    /// What the log's readers would see; a log that cannot be written does not stop a name server.
    fn say(&self, line: &str) {
        if let Err(error) = files::log(&self.log, line) {
            tracing::warn!(%error, "cannot write the log");
        }
    }
}

/// The answer to a question: a code, and the records.
fn answer(request: &Request) -> (ResponseCode, Vec<Record>) {
    let Ok(info) = request.request_info() else { return (ResponseCode::FormErr, Vec::new()) };
    let name = Name::from(info.query.name());
    let zone = Name::from_str(ZONE).unwrap_or_else(|_| Name::root());
    match (zone.zone_of(&name), info.query.query_type()) {
        (false, _) => (ResponseCode::Refused, Vec::new()),
        (true, RecordType::A) => (ResponseCode::NoError, vec![Record::from_rdata(name, 5, RData::A(A(ADDRESS)))]),
        (true, _) => (ResponseCode::NoError, Vec::new()),
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        let fault = files::read(&self.fault);
        let (code, records) = match fault.as_deref() {
            Some("servfail") => {
                self.say("Unexpected Error encountered.");
                (ResponseCode::ServFail, Vec::new())
            }
            _ => {
                self.say("Answering Query.");
                answer(request)
            }
        };
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = code;
        metadata.authoritative = true;
        let unanswered = hickory_proto::op::Header { metadata, counts: hickory_proto::op::HeaderCounts::default() };
        if fault.as_deref() == Some("hang") {
            return unanswered.into();
        }
        let response = MessageResponseBuilder::from_message_request(request).build(metadata, &records, [], [], []);
        respond.send_response(response).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot answer");
            unanswered.into()
        })
    }
}

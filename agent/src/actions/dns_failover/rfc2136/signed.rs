//! One exchange with a name server over TCP, signed with TSIG (RFC 8945) both ways.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hickory_proto::{
    op::{Message, MessageType},
    rr::{
        TSigner,
        rdata::tsig::{TSIG, TsigAlgorithm, TsigError},
    },
};
use tokio::{net::TcpStream, time::Instant};

use crate::{
    config::{Algorithm, DnsRecord},
    own_file,
};

/// How far apart the clocks may be, seconds; what RFC 8945 (section 10) recommends. So long, too, a server may take a
/// message that it got.
const FUDGE: u16 = 300;

/// The shortest secret that is taken for one, bytes.
const SHORTEST_SECRET: usize = 16;

/// A key, with its secret. It cannot be shown.
pub(super) struct Key {
    signer: TSigner,
    name: String,
    algorithm: Algorithm,
}

impl Key {
    /// Reads the secret of a record's key.
    ///
    /// # Errors
    /// The file cannot be read, is open to others, or holds no secret; without anything of what it holds.
    pub(super) fn read(record: &DnsRecord) -> Result<Self, String> {
        let file = record.secret_file.display();
        let text = own_file::read_secret(&record.secret_file)
            .map_err(|error| format!("the secret of the key {}: {error}", record.key))?;
        let secret = STANDARD.decode(text.trim()).map_err(|_| {
            format!("{file} does not hold the secret of the key {}: it has to be base64, on one line", record.key)
        })?;
        if secret.len() < SHORTEST_SECRET {
            return Err(format!("{file} holds a secret that is shorter than {SHORTEST_SECRET} bytes: make a new key"));
        }
        let algorithm = match record.algorithm {
            Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
            Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
            Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
        };
        let signer = TSigner::new(secret, algorithm, crate::dns::name(&record.key)?, FUDGE)
            .map_err(|error| format!("the key {} cannot be used: {error}", record.key))?;
        Ok(Self { signer, name: record.key.clone(), algorithm: record.algorithm })
    }
}

/// Why there is no answer that counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It was not asked at all.
    #[error("{0}")]
    NotAsked(String),
    /// There is no connection.
    #[error("{server} cannot be reached over TCP: {why}")]
    Unreachable { server: SocketAddr, why: String },
    /// It was asked, and said nothing.
    #[error("{server} does not answer: {why}")]
    Silent { server: SocketAddr, why: String },
    /// It does not know the key. Such an answer cannot be signed, so anybody may have given it.
    #[error("{server} does not take what the key {key} signed with {algorithm}: {why}")]
    KeyRefused { server: SocketAddr, key: String, algorithm: Algorithm, why: String },
    /// It knows the key, and does not take the signature.
    #[error("{server} does not take what was signed here: {why}")]
    SignatureRefused { server: SocketAddr, why: String },
    /// It may have come from anybody.
    #[error("what came from {server} is not believed: {why}")]
    NotBelieved { server: SocketAddr, why: String },
}

impl Error {
    /// Whether the server may have done, or may still do, what it was asked.
    pub(super) fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::KeyRefused { .. } | Self::NotBelieved { .. })
    }
}

/// Asks, and believes nothing that is not signed with the same key.
///
/// # Errors
/// There is no answer in time, or none that counts.
pub(super) async fn ask(
    server: SocketAddr,
    key: &Key,
    mut request: Message,
    limit: Duration,
) -> Result<Message, Error> {
    let end = Instant::now() + limit;
    let unreachable = |why: String| Error::Unreachable { server, why };
    let late = || format!("not within {:.1} s", limit.as_secs_f64());
    let connected = tokio::time::timeout_at(end, TcpStream::connect(server)).await;
    let mut stream = connected.map_err(|_| unreachable(late()))?.map_err(|error| unreachable(error.to_string()))?;
    let now = now();
    let not_asked = |error: &dyn std::fmt::Display| Error::NotAsked(format!("the message cannot be made: {error}"));
    request.finalize(&key.signer, now).map_err(|error| not_asked(&error))?;
    let bytes = request.to_vec().map_err(|error| not_asked(&error))?;
    let exchanged = tokio::time::timeout_at(end, crate::dns::exchange(&mut stream, &bytes)).await;
    let silent = |why: String| Error::Silent { server, why };
    let answer = exchanged.map_err(|_| silent(late()))?.map_err(|error| silent(error.to_string()))?;
    let mac = request.signature().map(|signature| signature.data.mac.clone()).unwrap_or_default();
    believe(server, key, &request, &mac, &answer, now)
}

/// The answer to a request, when it is one and its signature holds.
fn believe(
    server: SocketAddr,
    key: &Key,
    request: &Message,
    request_mac: &[u8],
    bytes: &[u8],
    now: u64,
) -> Result<Message, Error> {
    let not_believed = |why: String| Error::NotBelieved { server, why };
    let key_refused = |why: &str| {
        let (key, algorithm) = (key.name.clone(), key.algorithm);
        Error::KeyRefused { server, key, algorithm, why: why.to_owned() }
    };
    let refused = |why: String| Error::SignatureRefused { server, why };
    // Read first: the verification relies on it being a message.
    let answer = Message::from_vec(bytes).map_err(|error| not_believed(format!("it is no DNS message: {error}")))?;
    let (got, sent) = (&answer.metadata, &request.metadata);
    if got.message_type != MessageType::Response || got.id != sent.id || got.op_code != sent.op_code {
        return Err(not_believed("it answers something else".to_owned()));
    }
    let Some(signature) = answer.signature().map(|signature| signature.data.clone()) else {
        return Err(not_believed(format!("it is not signed (it says {})", super::message::code(got.response_code))));
    };
    match signature.error {
        Some(TsigError::BadKey) => {
            return Err(key_refused("it knows no such key (BADKEY); compare the key's name and algorithm"));
        }
        Some(TsigError::BadSig) => {
            return Err(key_refused("the secret is another one there (BADSIG); compare the secrets"));
        }
        _ => {}
    }
    key.signer
        .verify_message_byte(bytes, Some(request_mac), true)
        .map_err(|_| not_believed("its signature does not hold".to_owned()))?;
    match signature.error {
        None => {}
        Some(TsigError::BadTime) => return Err(refused(clocks(&signature, now))),
        Some(other) => return Err(refused(format!("the signature is refused (error {})", u16::from(other)))),
    }
    if signature.time.abs_diff(now) > u64::from(FUDGE) {
        return Err(not_believed("it was signed at another time".to_owned()));
    }
    Ok(answer)
}

/// What a server says whose clock is another one: its time is in the answer.
fn clocks(signature: &TSIG, now: u64) -> String {
    let theirs = <[u8; 6]>::try_from(signature.other.as_slice()).ok();
    let theirs = theirs.map(|bytes| bytes.iter().fold(0_u64, |time, byte| (time << 8) | u64::from(*byte)));
    let apart = theirs.map(|theirs| format!(" by {} s", theirs.abs_diff(now))).unwrap_or_default();
    format!("the clocks of this host and of the server differ{apart} (BADTIME); set them right")
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default()
}

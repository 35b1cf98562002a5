//! What everything that speaks DNS here shares: names, and an exchange over TCP.

use std::io;

use hickory_proto::rr::Name;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A name from the top, whether a dot stands at its end or not.
///
/// # Errors
/// It is none, in words.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_utf8(text).map_err(|error| format!("{text:?} is not a DNS name: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Sends a message and takes the one that comes back, each after its length (RFC 1035, 4.2.2). Nothing larger than 64 KiB
/// can come.
///
/// # Errors
/// The operating system's, or that the connection ended before the message did.
pub(crate) async fn exchange(stream: &mut TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

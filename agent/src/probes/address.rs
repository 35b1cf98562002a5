//! Where probes may connect to.
//!
//! A policy can be written by somebody who may not see what a host's loopback or a cloud's metadata service would tell
//! them. So those addresses are refused unless `agent.toml` allows them. Names are resolved first, and what was
//! resolved is what is connected to: a name that changes its address in between gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use quell_model::value::Fields;

use super::Attempt;
use crate::config::Allow;

/// Most addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// Why an address needs the host's permission; absent when it needs none.
pub fn restricted(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => restricted_v4(address),
        IpAddr::V6(address) => restricted_v6(address),
    }
}

fn restricted_v4(address: Ipv4Addr) -> Option<&'static str> {
    // The metadata services of clouds that do not use the link-local range.
    const METADATA: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_link_local() {
        Some("a link-local address, where clouds serve metadata")
    } else if METADATA.contains(&address) {
        Some("a cloud's metadata address")
    } else if address.octets()[0] == 0 {
        Some("an address that means this host")
    } else if address.is_multicast() || address.is_broadcast() {
        Some("not the address of one host")
    } else {
        None
    }
}

fn restricted_v6(address: Ipv6Addr) -> Option<&'static str> {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unspecified() {
        Some("an address that means this host")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address == METADATA {
        Some("a cloud's metadata address")
    } else if address.is_multicast() {
        Some("not the address of one host")
    } else {
        wrapped(address).and_then(restricted_v4)
    }
}

/// The IPv4 address that an IPv6 address reaches: translated (RFC 6052) or "compatible" (RFC 4291).
fn wrapped(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let wraps = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || segments[..6] == [0; 6];
    wraps.then(|| Ipv4Addr::from((u32::from(segments[6]) << 16) | u32::from(segments[7])))
}

/// Whether probes may connect to the address.
///
/// # Errors
/// Why not, and the line that would permit it.
pub fn permit(allow: &Allow, address: IpAddr) -> Result<(), String> {
    match restricted(address) {
        Some(why) if !allow.address(address) => Err(format!(
            "{address} is {why} and not allowed; to allow it, add it to addresses under [allow] in agent.toml: \
             addresses = [\"{address}\"]"
        )),
        _ => Ok(()),
    }
}

/// A host, by name or address, and a port: `planthost1.internal:8080`, `[::1]:53`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not host:port");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        // A bare IPv6 address would be cut at its last group.
        if bare.is_empty() || (bare == host && host.contains(':')) {
            return Err(wrong());
        }
        Ok(Self { host: bare.to_owned(), port: port.parse().map_err(|_| wrong())? })
    }
}

impl Endpoint {
    /// The addresses behind it that may be connected to.
    ///
    /// # Errors
    /// A failed attempt when the name does not resolve; one that was not made when the host's rules forbid every
    /// address.
    pub async fn resolve(&self, allow: &Allow) -> Result<Vec<SocketAddr>, Attempt> {
        let found: Vec<SocketAddr> = match self.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, self.port)],
            Err(_) => tokio::net::lookup_host((self.host.as_str(), self.port))
                .await
                .map_err(|error| Attempt::bad(format!("{} does not resolve: {error}", self.host), Fields::new()))?
                .take(MOST_ADDRESSES)
                .collect(),
        };
        let mut refusal = format!("{} has no address", self.host);
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            match permit(allow, address.ip()) {
                Ok(()) => allowed.push(address),
                Err(reason) => refusal = reason,
            }
        }
        if allowed.is_empty() { Err(Attempt::not_made(refusal)) } else { Ok(allowed) }
    }
}

/// Connects to the first address that answers.
///
/// # Errors
/// The last address's error, in words.
pub async fn connect(addresses: &[SocketAddr]) -> Result<tokio::net::TcpStream, String> {
    let mut last = "there is no address to connect to".to_owned();
    for address in addresses {
        match tokio::net::TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_reached_by_default_is_known_in_every_notation() {
        let refused = [
            "127.0.0.1",
            "127.255.0.9",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "::127.0.0.1",
        ];
        for text in refused {
            assert!(permit(&Allow::default(), text.parse().unwrap()).is_err(), "{text}");
        }
        for text in ["192.0.2.53", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.1", "64:ff9b::c000:235"] {
            assert!(permit(&Allow::default(), text.parse().unwrap()).is_ok(), "{text}");
        }
    }

    #[test]
    fn endpoints_are_read() {
        let read = |text: &str| text.parse::<Endpoint>().map(|endpoint| (endpoint.host, endpoint.port));
        assert_eq!(read("planthost1:80"), Ok(("planthost1".into(), 80)));
        assert_eq!(read("[::1]:53"), Ok(("::1".into(), 53)));
        for wrong in ["planthost1", "::1:53", ":80", "a:99999", "[]:1", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused() {
        let endpoint = Endpoint { host: "localhost".into(), port: 80 };
        let refused = endpoint.resolve(&Allow::default()).await.unwrap_err();
        assert!(matches!(refused, Attempt::Unjudged { reason, .. } if reason.contains("addresses = [")));
        let allow = Allow {
            addresses: vec!["127.0.0.0/8".to_owned().try_into().unwrap(), "::1".to_owned().try_into().unwrap()],
            ..Allow::default()
        };
        assert!(!endpoint.resolve(&allow).await.unwrap().is_empty());
    }
}

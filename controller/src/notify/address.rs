//! Which addresses a webhook may reach: those that only this machine or its cloud answers at are refused unless the
//! configuration names them, so that nobody who can write a contact can make the controller talk to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use quell_model::network::Network;

/// The addresses that the configuration allows although they are special.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    allowed: Vec<Network>,
}

impl Rules {
    /// Allows these.
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { allowed }
    }

    /// What forbids an address, in words; nothing: it may be reached.
    pub fn forbids(&self, address: IpAddr) -> Option<&'static str> {
        let address = address.to_canonical();
        if self.allowed.iter().any(|network| network.contains(address)) {
            return None;
        }
        match address {
            IpAddr::V4(address) => special_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                Some(inner) => self.forbids(IpAddr::V4(inner)),
                None => special_v6(address),
            },
        }
    }
}

/// Alibaba's metadata service; the others' are link-local.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// Amazon's metadata service over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_link_local() {
        Some("a link-local address, where cloud metadata services answer")
    } else if address == METADATA_V4 {
        Some("the address of a cloud metadata service")
    } else if address.octets()[0] == 0 {
        Some("an address of this machine")
    } else if address.is_multicast() || address.is_broadcast() || address.octets()[0] >= 240 {
        Some("not the address of one machine")
    } else {
        None
    }
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address == METADATA_V6 {
        Some("the address of a cloud metadata service")
    } else if address.is_unspecified() {
        Some("an address of this machine")
    } else if address.is_multicast() {
        Some("not the address of one machine")
    } else {
        None
    }
}

/// The IPv4 address inside an IPv6 one: NAT64 (RFC 6052, `64:ff9b::/96`), 6to4 (RFC 3056, `2002::/16`) and the
/// IPv4-compatible form of RFC 4291.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let joined = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(joined(high, low)),
        [0x2002, high, low, ..] => Some(joined(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(joined(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbids(allowed: &[&str], address: &str) -> Option<&'static str> {
        let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
        Rules::new(allowed).forbids(address.parse().unwrap())
    }

    #[test]
    fn special_addresses_are_refused_in_every_spelling() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "::127.0.0.1",
        ] {
            assert!(forbids(&[], address).is_some(), "{address}");
        }
    }

    #[test]
    fn ordinary_addresses_are_fine() {
        for address in ["192.0.2.1", "10.1.2.3", "192.168.1.1", "2001:db8::1", "fd12::1", "64:ff9b::c000:201"] {
            assert_eq!(forbids(&[], address), None, "{address}");
        }
    }

    #[test]
    fn the_configuration_allows_what_it_names_and_nothing_else() {
        assert_eq!(forbids(&["127.0.0.0/8"], "127.0.0.1"), None);
        assert_eq!(forbids(&["127.0.0.0/8"], "::ffff:127.0.0.1"), None);
        assert!(forbids(&["127.0.0.0/8"], "::1").is_some());
        assert!(forbids(&["127.0.0.0/8"], "169.254.169.254").is_some());
    }
}

//! Networks: ranges of addresses that share their first bits, as configuration files write them.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// A range of addresses in CIDR notation, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

/// A text that is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It has another form.
    #[error("{0:?} is not a network: write an address, or an address and its bits (127.0.0.0/8)")]
    Form(String),
    /// It names an address inside a range, and not the range.
    #[error("{0:?} has bits set below its prefix: write the first address of the range")]
    Bits(String),
}

impl Network {
    /// Whether an address lies in the range; an IPv4 address written as an IPv6 one (`::ffff:0:0/96`) is IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                base.to_bits() == address.to_bits() & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                base.to_bits() == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::Form(text.to_owned());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let base: IpAddr = address.parse().map_err(|_| wrong())?;
        let whole = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(whole), str::parse).ok().filter(|prefix| *prefix <= whole).ok_or_else(wrong)?;
        let network = Self { base, prefix };
        // Also an IPv4 address in IPv6 writing, which no address compared would ever have.
        if network.contains(base) { Ok(network) } else { Err(Invalid::Bits(text.to_owned())) }
    }
}

impl TryFrom<String> for Network {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::{Invalid, Network};

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_hold_what_they_say() {
        for (range, inside, outside) in [
            ("127.0.0.0/8", "127.255.0.1", "128.0.0.1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::ffff:128.0.0.1"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("::/0", "fe80::1", "8.8.8.8"),
            ("::1/128", "::1", "::2"),
            ("::1", "::1", "::2"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ] {
            assert!(network(range).contains(inside.parse().unwrap()), "{inside} in {range}");
            assert!(!network(range).contains(outside.parse().unwrap()), "{outside} in {range}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in ["", "x/8", "127.0.0.0/", "127.0.0.0/33", "::/129", "127.0.0.0/-1", "127.0.0.0/8/8"] {
            assert_eq!(wrong.parse::<Network>(), Err(Invalid::Form(wrong.to_owned())));
        }
        for wrong in ["127.0.0.1/8", "fe80::1/10", "::ffff:127.0.0.1"] {
            assert_eq!(wrong.parse::<Network>(), Err(Invalid::Bits(wrong.to_owned())));
        }
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["127.0.0.0/8", "fe80::/10"] {
            assert_eq!(network(text).to_string(), text);
            assert_eq!(serde_json::to_string(&network(text)).unwrap(), format!("{text:?}"));
        }
        assert_eq!(network("::1").to_string(), "::1/128");
    }
}

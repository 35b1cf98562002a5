//! A port for a listener that is to find it free again later.
//!
//! The system's own choice (port 0) is one of the ports that it gives to outgoing connections as well: when whoever chose
//! it closes it and binds it a moment later, or after a restart, a connection of somebody else may have it.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    ops::Range,
};

/// Where the kernel says which ports it gives to outgoing connections: the first and the last, `ip(7)`.
const OUTGOING: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Ports below it belong to services that are known by their number more often than not.
const LOWEST: u16 = 10_000;
/// With so few ports there is nothing to choose from.
const FEWEST: usize = 1_000;
/// After so many that were taken the system chooses.
const TRIES: usize = 100;

/// A listener at a port of an address that nobody listens at, and that outgoing connections are not given.
///
/// Where there are no such ports (the system gives nearly all to outgoing connections), the system chooses.
///
/// # Errors
/// The address cannot be listened at.
pub fn listener(address: IpAddr) -> io::Result<TcpListener> {
    if let Some(ports) = below(&std::fs::read_to_string(OUTGOING).unwrap_or_default()) {
        for _ in 0..TRIES {
            match TcpListener::bind(SocketAddr::new(address, fastrand::u16(ports.clone()))) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
    }
    TcpListener::bind(SocketAddr::new(address, 0))
}

/// The ports that are not for outgoing connections, if there are enough.
fn below(outgoing: &str) -> Option<Range<u16>> {
    let ports = LOWEST..outgoing.split_ascii_whitespace().next()?.parse().ok()?;
    (ports.len() >= FEWEST).then_some(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_and_not_one_of_outgoing_connections() {
        let held = listener([127, 0, 0, 1].into()).unwrap();
        let port = held.local_addr().unwrap().port();
        let outgoing = std::fs::read_to_string(OUTGOING).unwrap();
        assert!(below(&outgoing).is_none_or(|ports| ports.contains(&port)), "{port} with {outgoing}");
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "{port} is not listened at");
    }

    #[test]
    fn the_system_chooses_where_nearly_all_ports_are_for_outgoing_connections() {
        assert_eq!(below("32768\t60999\n"), Some(10_000..32_768));
        for narrow in ["1024\t65535\n", "10500 65535", "", "many"] {
            assert_eq!(below(narrow), None, "{narrow}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_an_error_and_not_a_search() {
        let error = listener([192, 0, 2, 1].into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}

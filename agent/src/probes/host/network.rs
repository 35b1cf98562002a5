//! Bytes a second of the network interfaces, from the difference of two looks at `/proc/net/dev`.

use std::{collections::BTreeMap, fs, time::Instant};

use quell_model::value::Fields;

use super::{number, put};

/// Most interfaces that are reported.
const MOST: usize = 32;

/// Received and sent bytes since the interface came up.
type Counters = BTreeMap<String, (u64, u64)>;

/// What the last look saw.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last: Option<(Instant, Counters)>,
}

impl Rates {
    /// Adds the rates since the last look; none at the first.
    pub(super) fn look(&mut self, fields: &mut Fields) {
        let Ok(text) = fs::read_to_string("/proc/net/dev") else { return };
        let (now, counters) = (Instant::now(), parse(&text));
        if let Some((then, before)) = &self.last {
            let seconds = now.duration_since(*then).as_secs_f64();
            add_rates(before, &counters, seconds, fields);
        }
        self.last = Some((now, counters));
    }
}

fn add_rates(before: &Counters, after: &Counters, seconds: f64, fields: &mut Fields) {
    for (name, (received, sent)) in after {
        // A counter that went back belongs to an interface that was made anew.
        let Some((received_before, sent_before)) = before.get(name) else { continue };
        if let (Some(received), Some(sent)) = (received.checked_sub(*received_before), sent.checked_sub(*sent_before))
            && seconds > 0.0
        {
            put(fields, &format!("network[{name}].rx_bytes_per_s"), (number(received) / seconds).round());
            put(fields, &format!("network[{name}].tx_bytes_per_s"), (number(sent) / seconds).round());
        }
    }
}

/// `proc_pid_net(5)`: eight numbers about receiving, then eight about sending; bytes are the first of each. Loopback
/// and the host's ends of containers' interfaces are left out.
fn parse(text: &str) -> Counters {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let interfaces = lines.filter_map(|(name, numbers)| {
        let mut numbers = numbers.split_ascii_whitespace();
        let received = numbers.next()?.parse().ok()?;
        let sent = numbers.nth(7)?.parse().ok()?;
        Some((name.trim().to_owned(), (received, sent)))
    });
    interfaces.filter(|(name, _)| name != "lo" && !name.starts_with("veth")).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_two_looks() {
        let text = |received: u64, sent: u64| {
            format!(
                "Inter-|   Receive                            |  Transmit\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n\
                 eth0:{received} 2 0 0 0 0 0 0 {sent} 3 0 0 0 0 0 0\nveth1: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"
            )
        };
        let (before, after) = (parse(&text(1000, 50)), parse(&text(4000, 150)));
        assert_eq!(before.len(), 1);
        let mut fields = Fields::new();
        add_rates(&before, &after, 2.0, &mut fields);
        assert_eq!(fields["network[eth0].rx_bytes_per_s"], 1500.0.into());
        assert_eq!(fields["network[eth0].tx_bytes_per_s"], 50.0.into());
        let mut fields = Fields::new();
        add_rates(&after, &before, 2.0, &mut fields);
        assert!(fields.is_empty());
    }
}

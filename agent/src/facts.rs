//! Facts about the host, told at the start of each session.

use std::{collections::BTreeMap, fs};

/// What is known of the host: os, kernel, architecture, boot_id, cpus, memory_bytes. What cannot be found out is left
/// out. Reads a few small files.
pub fn gather() -> BTreeMap<String, String> {
    let system = rustix::system::uname();
    let facts = [
        ("os", os_name(&fs::read_to_string("/etc/os-release").unwrap_or_default())),
        ("kernel", Some(system.release().to_string_lossy().into_owned())),
        ("architecture", Some(system.machine().to_string_lossy().into_owned())),
        ("hostname", Some(system.nodename().to_string_lossy().into_owned())),
        ("boot_id", crate::process::boot_id().ok()),
        ("cpus", std::thread::available_parallelism().ok().map(|count| count.to_string())),
        ("memory_bytes", fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(memory_bytes)),
    ];
    facts.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), fact?))).collect()
}

/// `PRETTY_NAME` of `os-release(5)`.
fn os_name(text: &str) -> Option<String> {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches(['"', '\'']).to_owned())
}

/// `MemTotal` of `proc_meminfo(5)`, which counts in KiB.
fn memory_bytes(text: &str) -> Option<String> {
    let kibibytes: u64 =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((kibibytes * 1024).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read() {
        assert_eq!(os_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n").as_deref(), Some("Debian GNU/Linux 12"));
        assert_eq!(memory_bytes("MemTotal:       1024 kB\nMemFree: 1 kB\n").as_deref(), Some("1048576"));
        let facts = gather();
        for name in ["kernel", "architecture", "boot_id", "cpus", "memory_bytes"] {
            assert!(facts.contains_key(name), "{name}");
        }
    }
}

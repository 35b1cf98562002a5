//! Small grammars of the agent's file and its command line: durations, sizes and names of services.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer};

/// Reads a duration as manifests write it: `500ms`, `90s`, `1h30m`, `30d`.
///
/// # Errors
/// When the unit is missing or unknown, or the number does not fit.
pub fn duration(text: &str) -> Result<Duration, String> {
    quell_model::unit::duration(text).map_err(|error| error.to_string())
}

/// Reads a size in bytes as manifests write it: `512B`, `64MiB`, `2GB`.
///
/// # Errors
/// When the unit is missing or unknown, or the number does not fit.
pub fn size(text: &str) -> Result<u64, String> {
    quell_model::unit::size(text).map_err(|error| error.to_string())
}

/// The unit that a service's name stands for when it names no kind of unit.
pub fn unit_name(service: &str) -> String {
    let kinds = [".service", ".socket", ".timer", ".target", ".mount", ".path", ".slice", ".scope"];
    if kinds.iter().any(|kind| service.ends_with(kind)) { service.to_owned() } else { format!("{service}.service") }
}

/// For serde: a duration as [`duration`] reads it.
pub(crate) fn deserialize_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// For serde: a size as [`size`] reads it.
pub(crate) fn deserialize_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    size(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::{duration, size, unit_name};
    use std::time::Duration;

    #[test]
    fn units_are_required() {
        assert_eq!(duration("30d").unwrap(), Duration::from_secs(30 * 86_400));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(size("1MiB").unwrap(), 1 << 20);
        assert_eq!(size("5KB").unwrap(), 5_000);
        for wrong in ["", "30", "d", "-1s", "1 s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "64", "MiB", "64mb", "2048m", "18446744073709551615TiB"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_service_is_a_unit_unless_it_says_which() {
        assert_eq!(unit_name("nginx"), "nginx.service");
        assert_eq!(unit_name("a.socket"), "a.socket");
    }
}

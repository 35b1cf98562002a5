//! Delta coding: of a sample only what differs from the probe's last one in this session is sent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use quell_model::value::Fields;
use quell_wire::v1;
use tokio::time::Instant;

use crate::{probes::Sample, wire};

/// What the controller knows of each probe, in this session.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    last: BTreeMap<Arc<str>, Fields>,
}

impl Encoder {
    /// A session begins: the controller knows nothing.
    pub(super) fn begin(&mut self) {
        self.last.clear();
    }

    /// The sample as a difference to the last one of its probe; whole, when there was none.
    pub(super) fn encode(&mut self, sample: &Sample, now: Instant) -> v1::Sample {
        let last = self.last.get(&sample.key);
        let changed = |(name, value): &(&String, _)| last.is_none_or(|last| last.get(*name) != Some(*value));
        let fields = sample.fields.iter().filter(changed).filter_map(wire::field).collect();
        let gone = last.into_iter().flat_map(Fields::keys).filter(|name| !sample.fields.contains_key(*name));
        let encoded = v1::Sample {
            probe: sample.key.to_string(),
            age_ms: wire::milliseconds(now.saturating_duration_since(sample.taken)),
            fields,
            gone: gone.cloned().collect(),
            full: last.is_none(),
            pushed: sample.pushed,
            spooled: false,
        };
        self.last.insert(Arc::clone(&sample.key), sample.fields.clone());
        encoded
    }

    /// Another sample of this probe was sent whole: the next one is, too.
    pub(super) fn forget(&mut self, key: &str) {
        self.last.remove(key);
    }

    /// Keeps only what belongs to these probes.
    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.last.retain(|key, _| wanted(key));
    }
}

/// The sample as a whole, as the spool keeps it.
pub(super) fn whole(sample: &Sample) -> v1::Sample {
    v1::Sample {
        probe: sample.key.to_string(),
        age_ms: wire::milliseconds(Duration::ZERO),
        fields: sample.fields.iter().filter_map(wire::field).collect(),
        gone: Vec::new(),
        full: true,
        pushed: sample.pushed,
        spooled: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(fields: &[(&str, f64)]) -> Sample {
        let fields = fields.iter().map(|(name, number)| ((*name).to_owned(), (*number).into())).collect();
        Sample { key: "p".into(), taken: Instant::now(), fields, pushed: false, urgent: false }
    }

    fn names(encoded: &v1::Sample) -> Vec<&str> {
        encoded.fields.iter().map(|field| field.name.as_str()).collect()
    }

    #[tokio::test]
    async fn only_differences_are_sent() {
        let mut encoder = Encoder::default();
        let now = Instant::now();
        let first = encoder.encode(&sample(&[("a", 1.0), ("b", 2.0)]), now);
        assert!(first.full && names(&first) == ["a", "b"] && first.gone.is_empty());
        let same = encoder.encode(&sample(&[("a", 1.0), ("b", 2.0)]), now);
        assert!(!same.full && same.fields.is_empty() && same.gone.is_empty());
        let other = encoder.encode(&sample(&[("b", 3.0), ("c", 4.0)]), now);
        assert_eq!(names(&other), ["b", "c"]);
        assert_eq!(other.gone, ["a"]);
        encoder.begin();
        assert!(encoder.encode(&sample(&[("b", 3.0), ("c", 4.0)]), now).full);
    }

    #[tokio::test]
    async fn what_was_sent_whole_in_between_makes_the_next_whole() {
        let mut encoder = Encoder::default();
        encoder.encode(&sample(&[("a", 1.0)]), Instant::now());
        encoder.forget("p");
        assert!(encoder.encode(&sample(&[("a", 1.0)]), Instant::now()).full);
        encoder.retain(|key| key != "p");
        assert!(encoder.encode(&sample(&[("a", 1.0)]), Instant::now()).full);
    }
}

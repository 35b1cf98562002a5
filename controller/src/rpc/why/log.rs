//! The log, searched by time: changes of a verdict lead from one to the one before, however much lies between them.

use std::sync::Arc;

use jiff::Timestamp;
use quell_engine::explain::Recorded;
use quell_model::name::{FullName, Target};

use crate::{
    decider::Handle,
    store::{Error, Record},
};

/// Records read at a time while looking through those of one moment.
const BATCH: usize = 64;
/// Records read at a time while looking back,
const BACK_BATCH: usize = 1_024;
/// and so many batches are looked through for what nobody judges any more.
const BACK_BATCHES: usize = 100;
/// So many changes of one verdict are followed back.
const MOST_CHANGES: usize = 10_000;

/// A policy's verdict on a target.
pub(super) type Key = (FullName, Target);

/// The change that a verdict of the past comes from.
#[derive(Debug)]
pub(super) struct Change {
    /// Its record.
    pub(super) sequence: u64,
    /// What it says.
    pub(super) recorded: Recorded,
    /// When the verdict changed again.
    pub(super) changed_at: Option<Timestamp>,
}

/// What the log knows of a moment.
#[derive(Debug)]
pub(super) enum Found {
    /// The change that made the verdict of that moment.
    Change(Box<Change>),
    /// The verdict stood already, and stands; the record of its change has gone.
    Standing,
    /// Nothing reaches that far back. The earliest that is known: when, and why no further.
    TooFar(String),
}

/// The log.
pub(super) struct Log<'a> {
    decider: &'a Handle,
    newest: u64,
    oldest: Option<Arc<Record>>,
}

impl<'a> Log<'a> {
    pub(super) async fn open(decider: &'a Handle) -> Result<Self, Error> {
        let newest = decider.head().sequence;
        let oldest = decider.records(1, 1).await?.into_iter().next();
        Ok(Self { decider, newest, oldest })
    }

    /// What is known of a verdict at a moment; `since`: since when it has stood by now, if anybody judges it.
    pub(super) async fn find(&self, key: &Key, since: Option<Timestamp>, at: Timestamp) -> Result<Found, Error> {
        match since {
            Some(since) => self.follow_back(key, since, at).await,
            None => self.look_back(key, at).await,
        }
    }

    /// From the newest change to the one before, until one is not after the moment.
    async fn follow_back(&self, key: &Key, since: Timestamp, at: Timestamp) -> Result<Found, Error> {
        let (mut since, mut end, mut changed_at) = (since, self.newest + 1, None);
        for _ in 0..MOST_CHANGES {
            let Some(record) = self.change_at(key, since, end).await? else {
                return Ok(match changed_at {
                    None if since <= at => Found::Standing,
                    _ => self.too_far(since),
                });
            };
            let Some(recorded) = read(&record) else { return Ok(self.too_far(since)) };
            if since <= at {
                return Ok(Found::Change(Box::new(Change { sequence: record.sequence, recorded, changed_at })));
            }
            let Some(previous) = recorded.previous else {
                return Ok(Found::TooFar(format!(
                    "its first verdict that is recorded is of {since} (record {})",
                    record.sequence
                )));
            };
            (since, end, changed_at) = (previous, record.sequence, Some(since));
        }
        Ok(Found::TooFar(format!(
            "its verdict has changed more than {MOST_CHANGES} times since; the oldest of these is of {since}"
        )))
    }

    /// Through all records before the moment: of what nobody judges any more no row says when it changed.
    async fn look_back(&self, key: &Key, at: Timestamp) -> Result<Found, Error> {
        let Some(oldest) = self.oldest.as_ref().map(|oldest| oldest.sequence) else {
            return Ok(Found::TooFar("the log is empty".to_owned()));
        };
        let mut end = self.first_after(at, self.newest + 1).await?;
        for _ in 0..BACK_BATCHES {
            let from = end.saturating_sub(BACK_BATCH as u64).max(oldest);
            let limit = usize::try_from(end - from).unwrap_or(BACK_BATCH);
            let records = self.decider.records(from, limit).await?;
            if let Some(record) = records.iter().rev().find(|record| is_change(record, key))
                && let Some(recorded) = read(record)
            {
                return Ok(Found::Change(Box::new(Change { sequence: record.sequence, recorded, changed_at: None })));
            }
            if from == oldest {
                return Ok(Found::TooFar(
                    "nobody judges it now, and the log that is kept says nothing of it before then".to_owned(),
                ));
            }
            end = from;
        }
        Ok(Found::TooFar(format!(
            "nobody judges it now, and {} records before then say nothing of it; `quell events --from` shows older ones",
            BACK_BATCH * BACK_BATCHES
        )))
    }

    fn too_far(&self, since: Timestamp) -> Found {
        let begins = self.oldest.as_ref().map(|oldest| format!("the log that is kept begins at {}", oldest.time));
        Found::TooFar(format!("the record of the change of {since} is not there: {}", begins.unwrap_or_default()))
    }

    /// The last record before a number that changed the verdict at exactly this time.
    async fn change_at(&self, key: &Key, time: Timestamp, end: u64) -> Result<Option<Arc<Record>>, Error> {
        let mut from = self.first_not_before(time, end).await?;
        let mut found = None;
        while from < end {
            let records = self.decider.records(from, BATCH).await?;
            let Some(last) = records.last().map(|record| record.sequence) else { break };
            let count = records.iter().take_while(|record| record.time == time && record.sequence < end).count();
            found = records[..count].iter().rev().find(|record| is_change(record, key)).cloned().or(found);
            if count < records.len() {
                break;
            }
            from = last + 1;
        }
        Ok(found)
    }

    async fn first_not_before(&self, time: Timestamp, end: u64) -> Result<u64, Error> {
        self.first(end, |record| record.time >= time).await
    }

    async fn first_after(&self, time: Timestamp, end: u64) -> Result<u64, Error> {
        self.first(end, |record| record.time > time).await
    }

    /// The first record before `end` from which on something holds; times never go back in the log.
    async fn first(&self, end: u64, holds: impl Fn(&Record) -> bool) -> Result<u64, Error> {
        let (mut low, mut high) = (self.oldest.as_ref().map_or(end, |oldest| oldest.sequence).min(end), end);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.decider.records(middle, 1).await?.first() {
                Some(record) if !holds(record) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

fn is_change(record: &Record, key: &Key) -> bool {
    let is = |name: &str, value: &str| record.ids.get(name).is_some_and(|id| id == value);
    record.kind == "verdictChanged" && is("policy", &key.0.to_string()) && is("target", &key.1.to_string())
}

fn read(record: &Record) -> Option<Recorded> {
    serde_json::from_value(record.data.clone()).ok()
}

//! What the agent measures: one trait, one file for each kind, one list.
//!
//! A probe makes attempts; [`streak`] turns attempts into samples, the same for every kind; [`runner`] decides when.
//! An attempt that says nothing about the world (the host's rules forbid it, the last one still hangs, a person
//! stopped the service) is told apart from one that failed: only what was judged has `ok`, and without `ok` every
//! condition that asks for it is unknown.
//!
//! To add a kind: declare it and its fields in the model, write one file here, and add one line to [`KINDS`]. The
//! conformance test runs over the list.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use quell_model::{
    probe::{ProbeKind, ProbeSpec},
    value::Fields,
};
use tokio::time::Instant;

use crate::{clock::ClockOffset, config::Config, managers::Managers, watch::Watcher};

pub mod address;
pub mod blocking;
pub mod command;
pub mod dns;
pub mod file;
pub mod host;
pub mod http;
pub mod log_match;
pub mod pattern;
pub mod process;
pub mod runner;
pub mod service;
pub mod streak;
pub mod tcp;
pub mod tls;

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    /// It tells how things stand.
    Judged {
        /// Whether it found what it should; otherwise why not.
        result: Result<(), String>,
        /// What it saw, by the names of the field table.
        fields: Fields,
    },
    /// It tells nothing that may be acted on.
    Unjudged {
        /// Why not.
        reason: String,
        /// What it saw all the same.
        fields: Fields,
    },
}

impl Attempt {
    /// An attempt that found what it should.
    pub fn good(fields: Fields) -> Self {
        Self::Judged { result: Ok(()), fields }
    }

    /// An attempt that did not, and what it saw all the same.
    pub fn bad(error: impl Into<String>, fields: Fields) -> Self {
        Self::Judged { result: Err(error.into()), fields }
    }

    /// An attempt that could not be made.
    pub fn not_made(reason: impl Into<String>) -> Self {
        Self::Unjudged { reason: reason.into(), fields: Fields::new() }
    }

    /// The one that `result` holds, whether it went on or ended early.
    pub fn either(result: Result<Self, Self>) -> Self {
        result.unwrap_or_else(|early| early)
    }
}

/// What a boxed asynchronous method returns.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that is measured again and again. Dropping it releases everything that it holds.
pub trait Probe: Send {
    /// Measures once. It ends within `timeout`, or within twice that where the kind has a second phase.
    fn attempt(&mut self, timeout: Duration) -> Boxed<'_, Attempt>;

    /// Returns when something has happened that deserves an attempt before the next is due. Cancel-safe.
    fn changed(&mut self) -> Boxed<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// CPU time that attempts have used outside the runtime's thread since the last call: blocking reads, children.
    fn cost(&mut self) -> Duration {
        Duration::ZERO
    }

    /// The last lines of the log that the probe watches, oldest first, for kinds that watch one.
    fn tail(&mut self, lines: usize) -> Boxed<'_, Result<Vec<String>, String>> {
        let _ = lines;
        Box::pin(std::future::ready(Err("this probe watches no log".to_owned())))
    }
}

/// What probes need from the agent around them.
#[derive(Clone)]
pub struct Context {
    /// What the host's administrator allows.
    pub config: Arc<Config>,
    /// The host's service managers.
    pub managers: Arc<Managers>,
    /// Watches files.
    pub watcher: Watcher,
    /// How far the host's clock is from the controller's.
    pub clock: ClockOffset,
}

/// What building a probe gives: absent when the specification is of another kind, an error when the host's rules or
/// the specification itself forbid it.
pub type Built = Option<Result<Box<dyn Probe>, String>>;

/// A kind of probe as the list knows it.
pub struct Kind {
    /// Which kind.
    pub kind: ProbeKind,
    /// Makes a probe of it.
    pub build: fn(&ProbeSpec, &Context) -> Built,
}

/// Every kind that a controller can assign. The host samples are taken without being asked for.
pub const KINDS: &[Kind] = &[
    http::KIND,
    tcp::KIND,
    tls::KIND,
    dns::KIND,
    process::KIND,
    service::KIND,
    log_match::KIND,
    file::KIND,
    command::KIND,
];

/// Makes the probe that a specification describes.
///
/// # Errors
/// Why it cannot run here, in words for people.
pub fn build(spec: &ProbeSpec, context: &Context) -> Result<Box<dyn Probe>, String> {
    KINDS
        .iter()
        .find_map(|kind| (kind.build)(spec, context))
        .unwrap_or_else(|| Err(format!("this agent has no probe of kind {}", spec.kind())))
}

/// One probe's view of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The assignment that it belongs to.
    pub key: Arc<str>,
    /// When it was taken.
    pub taken: Instant,
    /// What was seen.
    pub fields: Fields,
    /// Taken because something changed, not because it was due.
    pub pushed: bool,
    /// Somebody may wait for it: it was asked for, or the probe's verdict turned. It is not held back for company.
    pub urgent: bool,
}

//! A person's order: a one-shot policy of one step, signed like any other and good for one plan.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Malformed,
    document::{self, rule},
};
pub use hosts::Hosts;

use crate::digest::Digest;

mod hosts;

/// Its kind, as documents write it.
pub(super) const KIND: &str = "Run";
/// The version of its form.
const API_VERSION: &str = "quell/v1";
/// The longest time that its step may take.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// A person's order. Its digest stands in a one-shot [`super::set::PolicySet`] under `Run/<id>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// `quell/v1`.
    pub api_version: String,
    /// `Run`.
    pub kind: String,
    /// Random, made where it is signed: 1 to 64 of letters, digits and `-`.
    pub id: String,
    /// The action.
    pub action: String,
    /// Its parameters.
    pub with: Map<String, Value>,
    /// On which hosts.
    pub hosts: Hosts,
    /// Sizes of the waves; the last repeats.
    pub waves: Vec<u32>,
    /// How long the step may take, milliseconds.
    pub timeout_ms: u64,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
    /// Why.
    pub reason: String,
}

impl Run {
    /// An order for a step of an action, in waves of 1, 2 and 4 and with five minutes' time.
    pub fn new(id: String, action: String, with: Map<String, Value>, hosts: impl Into<Hosts>) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            id,
            action,
            with,
            hosts: hosts.into(),
            waves: vec![1, 2, 4],
            timeout_ms: 300_000,
            dry_run: false,
            reason: String::new(),
        }
    }

    /// Its canonical bytes.
    pub fn canonical(&self) -> String {
        document::write(self)
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }

    /// Its key in a set: `Run/<id>`.
    pub fn key(&self) -> String {
        format!("{KIND}/{}", self.id)
    }

    /// How long the step may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Reads an order from its canonical bytes.
    ///
    /// # Errors
    /// The bytes are not canonical, or break a rule of an order.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let run: Self = document::read(KIND, bytes)?;
        run.check()?;
        Ok(run)
    }

    /// Checks what holds for every order; whoever makes one asks this before signing.
    ///
    /// # Errors
    /// A rule does not hold.
    pub fn check(&self) -> Result<(), Malformed> {
        let rule = |holds: bool, why: &dyn Fn() -> String| rule(KIND, holds, why);
        rule(self.api_version == API_VERSION, &|| format!("`apiVersion` is {API_VERSION}"))?;
        rule(self.kind == KIND, &|| format!("`kind` is {KIND}"))?;
        rule(is_id(&self.id), &|| format!("{:?} is not an identifier: 1 to 64 of letters, digits and -", self.id))?;
        rule(!self.action.is_empty(), &|| "it names no action".to_owned())?;
        rule(!self.hosts.is_nobody(), &|| "`hosts` chooses nobody: say labels or names, or write \"all\"".to_owned())?;
        rule(!self.waves.is_empty() && !self.waves.contains(&0), &|| "`waves` are sizes from 1".to_owned())?;
        let timeout = self.timeout();
        rule(!timeout.is_zero() && timeout <= LONGEST, &|| "`timeoutMs` is more than 0 and at most a day".to_owned())
    }
}

/// Whether a text can identify an order.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

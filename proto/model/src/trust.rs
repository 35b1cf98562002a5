//! Trust: nothing runs that a person did not sign, and whoever acts verifies that itself.
//!
//! An agent believes a [`root::TrustRoot`]: the text of an OpenSSH `allowed_signers` file ([`signers`]) and how many
//! distinct people must sign for a namespace. A [`set::PolicySet`] names every manifest of a namespace by its digest,
//! with a version and an expiry; people sign its exact bytes with the SSH keys that they have ([`signature`]). A person's
//! order is a [`run::Run`] in a set of its own, good for one plan. People approve the hash of a [`crate::plan::ExactPlan`]
//! ([`approvals`]). [`authorize()`] puts it together: behind every command, on the host that is told to act.
//!
//! All of it is pure: the time, the time zone and what is believed are parameters. What takes memory is left to the
//! caller and named in the [`Warrant`]: the highest version of a set seen, one-shots that were used, cool-downs,
//! calendars, what runs at the same time, and approvals that depend on a condition.
//!
//! | namespace of a signature | what it is for |
//! |---|---|
//! | `quell-policy` | a policy set that may act, a person's order among them |
//! | `quell-policy.observe` | a policy set that may look only |
//! | `quell-approval.ROLE` | an approval of a plan, by somebody of a role |
//! | `quell-trust` | a change of the root of trust, or of a host's labels |
//! | `quell-limits` | a set of limits: ceilings over all policies of a namespace ([`crate::limits`]) |

pub mod approvals;
mod arithmetic;
pub mod authorize;
mod denied;
pub(crate) mod document;
mod fields;
pub mod labels;
mod line;
mod moment;
mod pattern;
pub mod root;
pub mod run;
pub mod set;
pub mod signature;
pub mod signers;

pub use authorize::{Belief, Bounds, Known, Order, SignedLimits, Warrant, authorize, authorize_knowing};
pub use denied::{Denied, Lacking};
pub use document::Malformed;
pub use labels::LabelChange;
pub use line::Line;
pub use root::{Believed, TrustRoot};
pub use set::{Authority, PolicySet, SetName, SignedSet, VerifiedSet};
pub use signers::{AllowedSigners, LineError, Refused, Signer};

/// Policy sets that may act, a person's order among them.
pub const NAMESPACE_POLICY: &str = "quell-policy";
/// Policy sets that may look only.
pub const NAMESPACE_OBSERVE: &str = "quell-policy.observe";
/// Changes of the root of trust.
pub const NAMESPACE_TRUST: &str = "quell-trust";
/// Ceilings over all policies of a namespace.
pub const NAMESPACE_LIMITS: &str = "quell-limits";

/// The namespace in which somebody of a role approves: `quell-approval.compliance`.
pub fn approval_namespace(role: &str) -> String {
    format!("quell-approval.{role}")
}

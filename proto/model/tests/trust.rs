//! Trust, check by check: for every reason to deny there is a test that fails when the check is gone.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "trust/approvals.rs"]
mod approvals;
#[path = "trust/commands.rs"]
mod commands;
#[path = "trust/documents.rs"]
mod documents;
#[path = "trust/limits.rs"]
mod limits;
#[path = "trust/properties.rs"]
mod properties;
#[path = "trust/roots.rs"]
mod roots;
#[path = "trust/sets.rs"]
mod sets;
#[path = "trust/signers.rs"]
mod signers;
#[path = "trust/world.rs"]
mod world;

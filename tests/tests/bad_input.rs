//! What is wrong is refused: one clear error that names the thing and the remedy, the exit code of the table, nothing
//! changed and nothing lost; and what other programs call is answered exactly as promised.
//!
//! Real processes over mutual TLS on loopback. Each file below tells of one kind of thing that can be wrong.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "bad_input/call.rs"]
mod call;
#[path = "bad_input/certificates.rs"]
mod certificates;
#[path = "bad_input/contract.rs"]
mod contract;
#[path = "bad_input/directories.rs"]
mod directories;
#[path = "bad_input/joins.rs"]
mod joins;
#[path = "bad_input/manifests.rs"]
mod manifests;
#[path = "bad_input/processes.rs"]
mod processes;
#[path = "bad_input/restore.rs"]
mod restore;
#[path = "bad_input/revocation.rs"]
mod revocation;

//! The domain: what policies say, what probes see, and how the two are compared.
//!
//! Everything here is validated by construction and pure: no clock, no randomness, no I/O. Manifests become types in
//! [`manifest`], once; conditions are checked against the declared fields when they are compiled, so that a policy
//! that could never fire is an error and not a silence.

pub mod action;
pub mod audit;
pub mod calendar;
pub mod condition;
pub mod digest;
pub mod escape;
pub mod glob;
pub mod limits;
pub mod manifest;
pub mod name;
pub mod network;
pub mod plan;
pub mod policy;
pub mod preview;
pub mod probe;
pub mod selector;
pub mod trust;
pub mod unit;
pub mod value;
pub mod values;

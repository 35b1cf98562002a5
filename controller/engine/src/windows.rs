//! What has been seen lately: samples and their histories. Never recorded, unknown after a start.

/// The engine's windows of samples.
#[derive(Debug, Default)]
pub struct Windows {}

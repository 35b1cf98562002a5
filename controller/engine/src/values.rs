//! Values in parameters, selectors and texts, by the rules that agents check plans by.

pub(crate) use quell_model::values::{fill, fill_object, fill_selector, plain, rounded};

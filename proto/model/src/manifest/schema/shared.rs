//! Parts of the table that several kinds of manifest use.

use super::{Field, Need, Shape};

/// A field that has to be there.
pub(crate) const fn required(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, need: Need::Required, about }
}

/// A field that may be left out.
pub(crate) const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, need: Need::Optional, about }
}

/// A field that has a value when it is left out.
pub(crate) const fn default(name: &'static str, shape: Shape, value: &'static str, about: &'static str) -> Field {
    Field { name, shape, need: Need::Default(value), about }
}

/// A choice of hosts.
pub(crate) const SELECTOR: Shape = Shape::Short(
    &Shape::Choice(&["all"]),
    &[optional(
        "matchLabels",
        Shape::Map(&Shape::Text),
        "Labels that a host must bear, every one of them; none means nobody.",
    )],
);

/// A choice of hosts of which some are taken.
pub(crate) const PLACEMENT: Shape = Shape::Short(
    &Shape::Choice(&["all"]),
    &[
        optional(
            "matchLabels",
            Shape::Map(&Shape::Text),
            "Labels that a host must bear, every one of them; a value may be `$(name)`.",
        ),
        optional("pick", Shape::Integer, "How many are taken, by name among those that are online; all when left out."),
    ],
);

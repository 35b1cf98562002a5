//! A policy among the documents of a file, as it was written.

use super::node::Node;
use crate::name::FullName;

/// The namespace of a manifest that names none; the schema says the same.
const DEFAULT_NAMESPACE: &str = "default";

/// The specification of a policy, if the documents hold the policy and it has one.
pub(super) fn policy_spec<'a>(documents: &'a [Node], name: &FullName) -> Option<&'a Node> {
    let is_wanted = |document: &&Node| {
        let metadata = |key| document.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Node::text);
        document.get("kind").and_then(Node::text) == Some("Policy")
            && metadata("namespace").unwrap_or(DEFAULT_NAMESPACE) == name.namespace.as_str()
            && metadata("name") == Some(name.name.as_str())
    };
    documents.iter().find(is_wanted)?.get("spec")
}

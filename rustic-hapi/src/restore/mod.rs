//! The way back: from a snapshot to proven bytes.
//!
//! Knows: the repository, manifests. Must not know: why something is restored.

pub(crate) mod contents;
pub(crate) mod fetch;
pub(crate) mod origin;

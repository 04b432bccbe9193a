//! The way back: from a snapshot to proven bytes.
//!
//! Knows: the repository, manifests. Must not know: why something is restored.

pub(crate) mod contents;
pub(crate) mod difference;
pub(crate) mod fetch;
pub(crate) mod library;
pub(crate) mod origin;
pub(crate) mod proof;
pub(crate) mod restorer;
pub(crate) mod rolling;
pub(crate) mod secret;

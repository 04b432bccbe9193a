//! Screen, keyboard and signals.
//!
//! Knows: the terminal. Must not know: what is said.

pub(crate) mod call;
pub(crate) mod output;
pub(crate) mod paint;
pub(crate) mod prompt;
pub mod signals;
pub(crate) mod ui;

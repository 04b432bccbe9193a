//! An observer hears how far a capture is; it cannot change anything about it.

use crate::source::Source;

/// Told how far the present source is. All methods have empty bodies to start from.
pub trait Observer: Sync {
    /// A source of about `total` bytes begins.
    fn begin(&self, _source: &Source, _total: u64) {}
    /// So many bytes more have been copied.
    fn advance(&self, _bytes: u64) {}
    /// A step without bytes begins ("checking integrity", say).
    fn step(&self, _what: &str) {}
    /// The source is done.
    fn end(&self) {}
}

/// Where nobody listens.
pub(crate) struct Silent;

impl Observer for Silent {}

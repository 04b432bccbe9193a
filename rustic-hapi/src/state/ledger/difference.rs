//! What is different between the ledger and the repository: snapshots that are gone, and those of another writer.

use crate::policy::history::{ONLY, Snapshot};
use crate::state::ledger::entry::Entry;

/// What a comparison of the ledger with the repository showed.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Snapshots that this machine saved, that no retention would have removed, and that are gone.
    pub(super) vanished: Vec<Entry>,
    /// Whether no run has told of one of them yet.
    pub(super) is_new: bool,
    /// Snapshots of this hub that another machine wrote.
    pub(super) foreign: Vec<Snapshot>,
    pub(super) append_only: bool,
}

impl Difference {
    /// Whether there is something that no run has told yet.
    pub fn is_new(&self) -> bool {
        self.is_new || !self.foreign.is_empty()
    }

    /// What a run tells: of what is gone once, of another writer each time.
    pub fn news(&self) -> Vec<String> {
        let gone = self.is_new.then(|| self.gone()).flatten();
        gone.into_iter().chain(self.another_writer()).collect()
    }

    /// All of it, until it is acknowledged.
    pub fn all(&self) -> Vec<String> {
        self.gone()
            .into_iter()
            .chain(self.another_writer())
            .collect()
    }

    fn gone(&self) -> Option<String> {
        let newest = self.vanished.iter().max_by_key(|entry| entry.time)?;
        let lines: Vec<_> = self
            .vanished
            .iter()
            .rev()
            .take(5)
            .map(|e| {
                format!(
                    "{} {} {}",
                    e.short_id(),
                    e.series,
                    e.time.format("%Y-%m-%d %H:%M")
                )
            })
            .collect();
        let more = match self.vanished.len().saturating_sub(lines.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let by = match self.append_only {
            true => "the server's own retention",
            false => "`restic forget` or `rustic-hapi forget` on another machine",
        };
        Some(format!(
            "snapshots that this machine saved are gone, and its retention did not remove them: {}{more}; \
             it may have been {by}, or the storage was set back to an earlier state; \
             if this is right, add \"{}\" to `acknowledged` in `[retention]`",
            lines.join(", "),
            newest.short_id()
        ))
    }

    fn another_writer(&self) -> Option<String> {
        let newest = self
            .foreign
            .iter()
            .rfind(|s| !s.has(ONLY))
            .or(self.foreign.last())?;
        Some(format!(
            "another machine writes snapshots of this hub: {newest} is one of {} that this one did not write; \
             it may be a clone, another profile of this hub, or this machine was set back to an earlier state; \
             a clone needs another `host` and `hub-id` in its profile; \
             if this is right, add \"{}\" to `acknowledged` in `[retention]`",
            self.foreign.len(),
            newest.short_id()
        ))
    }
}

//! Writing hands an archive to the engine, between the gate's begin and its end.

use std::path::PathBuf;

use rustic_core::repofile::{DeleteOption, SnapshotFile, StringList};
use rustic_core::{BackupOptions, ParentOptions};

use crate::archive::Archive;
use crate::archive::parent::{Known, Parent};
use crate::archive::stream::GatedSource;
use crate::error::Error;
use crate::policy::history::USERNAME;
use crate::repository::gate::{Gate, Written};
use crate::repository::{Repository, Writing};

/// What a snapshot is called.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    /// The host name of the profile.
    pub host: String,
    /// The one path that snapshots carry.
    pub home: PathBuf,
    /// The series first.
    pub tags: Vec<String>,
    /// The description's JSON.
    pub description: String,
    /// The snapshot's time, in the machine's time zone.
    pub time: jiff::Zoned,
    /// Until when it must be kept, if that was asked for.
    pub keep_until: Option<jiff::Zoned>,
}

/// Why there is no snapshot of an archive.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// SQLite found damage in a copy that the manifest took for sound. The data is in the repository already;
    /// `Written` lists the packs.
    PresumedWrongly(Written),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Unwritten {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Archive {
    /// Writes the archive as a snapshot. What is the same in one that is known is not read; the parent that this
    /// makes of it is returned, too.
    ///
    /// # Errors
    /// [`Unwritten::PresumedWrongly`] where the manifest is not true; [`Error::Refused`] with what the gate
    /// has on record, [`Error::Engine`] otherwise. The repository then has no new snapshot, at most some
    /// packs that nothing refers to.
    pub(crate) fn write(
        &self,
        repository: &Repository,
        label: &Label,
        known: Option<&Known>,
    ) -> Result<(SnapshotFile, Written, Option<Parent>), Unwritten> {
        let gate = repository.gate();
        let engine = repository.for_writing()?;
        let parent = known.and_then(|known| known.parent_of(self, &engine));
        let read = |index: &usize| !parent.as_ref().is_some_and(|p| p.same.contains(index));
        gate.begin(
            self.items
                .iter()
                .enumerate()
                .filter(|(_, i)| i.is_file())
                .map(|(i, _)| i)
                .filter(read),
            self.verdicts.clone(),
        );
        let saved = self.hand_over(&engine, gate, label, parent.as_ref());
        let failures = gate.failures();
        let presumed_wrongly = gate.presumed_wrongly();
        let written = gate.end();
        match saved {
            Ok(snapshot) => Ok((snapshot, written, parent)),
            Err(_) if presumed_wrongly => Err(Unwritten::PresumedWrongly(written)),
            Err(_) if !failures.is_empty() => Err(Error::Refused { failures }.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn hand_over(
        &self,
        engine: &Writing,
        gate: &Gate,
        label: &Label,
        parent: Option<&Parent>,
    ) -> Result<SnapshotFile, Error> {
        let tags: StringList = label
            .tags
            .join(",")
            .parse()
            .map_err(|error| Error::Engine {
                doing: "tagging the snapshot",
                reason: format!("{error}").into(),
            })?;
        let snapshot = SnapshotFile {
            time: label.time.clone(),
            hostname: label.host.clone(),
            username: USERNAME.to_owned(),
            program_version: concat!("rustic-hapi ", env!("CARGO_PKG_VERSION")).to_owned(),
            tags,
            description: Some(label.description.clone()),
            delete: label
                .keep_until
                .clone()
                .map_or(DeleteOption::NotSet, DeleteOption::After),
            ..SnapshotFile::default()
        };
        // Equal size and mtime prove nothing for a database: where hashes do not prove it, everything is
        // read.
        let parent = match parent {
            Some(parent) => ParentOptions::default().parents(vec![parent.snapshot.clone()]),
            None => ParentOptions::default().force(true),
        };
        let options = BackupOptions::default().parent_opts(parent);
        let source = GatedSource {
            items: self.items.clone(),
            gate: gate.clone(),
        };
        engine
            .archive(
                &options,
                &source,
                snapshot,
                std::slice::from_ref(&label.home),
            )
            .map_err(Error::engine("writing the snapshot"))
    }
}

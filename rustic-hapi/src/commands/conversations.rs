//! Where conversations are read from: the hub's databases in a snapshot, in all of them, or live. Each is copied into a
//! folder of this run (0700, gone when it ends) and read there.

mod findings;
mod live;
pub mod origin;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hapi_sources::{CaptureError, Observer, Staging};

pub(crate) use self::findings::Findings;
use self::findings::{lacks, no_database};
use self::origin::{Origin, Place, Reader, Unread};

use crate::commands::context::Context;
use crate::conversation::database::{Database, Opened};
use crate::error::Error;
use crate::machine::disk::free_at;
use crate::machine::private_files::private_staging;
use crate::policy::choice::{Lost, Which};
use crate::policy::description::Outcome;
use crate::policy::history::Snapshot;
use crate::policy::manifest::{EntryRecord, SourceRecord};
use crate::profile::reading::Reading;
use crate::repository::Repository;
use crate::restore::difference::What;
use crate::restore::fetch::Failure;
use crate::restore::library::{Library, may_not_read, warnings_of};
use crate::restore::rolling::Rolling;

/// Bytes that stay free for the live hub.
const MARGIN: u64 = 64 << 20;

/// Hands each database to `read` until it has enough. Returns what the operator should know.
///
/// # Errors
/// Those of the repository, of the live database, of the staging folder, and of `read`; and where there is no database
/// that may be chosen for somebody.
pub(crate) fn each_database(
    from: Reading<'_>,
    place: &Place,
    host: Option<&str>,
    context: &Context<'_>,
    read: &mut Reader<'_>,
) -> Result<Findings, Error> {
    if *place == Place::Live {
        return live::each(from, context, read);
    }
    let (stop, ui) = (context.stop, context.ui);
    let repository = Repository::open(from.reach, stop, ui.clone())?;
    let _held = repository.lock_to_read()?;
    let mut library = Library::open(&repository, from.profile, host)?;
    if let Some(reason) = library.denied.take() {
        return Err(may_not_read(reason));
    }
    let staging = private_staging(&from.staging())?;
    let mut shelf = Shelf {
        context,
        staging: &staging,
        copies: BTreeMap::new(),
        found: Findings {
            warnings: std::mem::take(&mut library.unreadable),
            ..Findings::default()
        },
    };
    match place {
        Place::Snapshot(which) => shelf.chosen(from, &mut library, which, read)?,
        _ => shelf.all(from, &mut library, read)?,
    }
    ui.step(format_args!(
        "{} bytes came from the repository",
        shelf.copies.values().map(|copy| copy.fetched).sum::<u64>()
    ));
    Ok(shelf.found)
}

/// The copies of this run: one for each path, which becomes what a snapshot has there.
struct Shelf<'a> {
    context: &'a Context<'a>,
    staging: &'a Staging,
    copies: BTreeMap<PathBuf, Rolling>,
    found: Findings,
}

impl Shelf<'_> {
    fn chosen(
        &mut self,
        from: Reading<'_>,
        library: &mut Library,
        which: &Which,
        read: &mut Reader<'_>,
    ) -> Result<(), Error> {
        let mut chosen = library.choose(from.profile, which, &[], self.context.now())?;
        let mut kept = Vec::new();
        for choice in std::mem::take(&mut chosen.choices) {
            let contents = library.contents(&choice.snapshot)?;
            contents.is_trustworthy(&choice.snapshot)?;
            if !databases(library.record(&choice)?).is_empty() {
                kept.push(choice);
            }
        }
        chosen.choices = kept;
        if *which == Which::Newest {
            for choice in &chosen.choices {
                if choice.shrunk || !choice.outcome.is_sound() {
                    return Err(nothing_sound(&choice.snapshot, choice.outcome));
                }
            }
        }
        self.found
            .warnings
            .extend(warnings_of(&chosen, &library.snapshots));
        let mut hubs = 0;
        for choice in &chosen.choices {
            let record = library.record(choice)?.clone();
            for entry in databases(&record) {
                let path = entry.path.to_path();
                self.bring(library, &choice.snapshot, entry)?
                    .map_err(|what| {
                        let differences = vec![format!("`{}`: {what}", path.display())];
                        Error::Unlike {
                            snapshot: choice.snapshot.to_string(),
                            differences,
                        }
                    })?;
                let origin = Origin {
                    snapshot: Some(choice.snapshot.clone()),
                    path,
                };
                match self.read(&origin, read) {
                    Ok(Some(true)) => hubs += 1,
                    Ok(Some(false)) => return Ok(()),
                    Ok(None) => {}
                    Err(Unread::Error(error)) => return Err(error),
                    Err(Unread::Sqlite(error)) => {
                        return Err(Error::Unlike {
                            snapshot: choice.snapshot.to_string(),
                            differences: vec![format!("`{}`: {error}", origin.path.display())],
                        });
                    }
                }
            }
        }
        match hubs {
            0 => Err(no_database(&self.found)),
            _ => Ok(()),
        }
    }

    fn all(
        &mut self,
        from: Reading<'_>,
        library: &mut Library,
        read: &mut Reader<'_>,
    ) -> Result<(), Error> {
        let snapshots = library.snapshots.clone();
        let lost = Lost::of(&snapshots, from.profile);
        let mut left_out = Vec::new();
        let mut read_from = 0u64;
        // What is known so far is of snapshot files that cannot be read at all.
        self.found.unread = self.found.warnings.len() as u64;
        for snapshot in snapshots.iter().rev() {
            let contents = match library.contents(snapshot) {
                Ok(contents) => contents,
                Err(error @ Error::Engine { .. }) => return Err(error),
                Err(error) => {
                    self.found.unread(error.to_string());
                    continue;
                }
            };
            let records = contents.manifest.sources.iter();
            let records: Vec<_> = records
                .filter(|record| !databases(record).is_empty())
                .cloned()
                .collect();
            for record in records {
                if lost.concerns(snapshot, &record.name) || !record.outcome.is_sound() {
                    left_out.push(snapshot.short_id());
                    continue;
                }
                for entry in databases(&record) {
                    let path = entry.path.to_path();
                    match self.bring(library, snapshot, entry)? {
                        Ok(true) => {}
                        // The same as in a newer one.
                        Ok(false) => continue,
                        Err(what) => {
                            let path = path.display();
                            self.found.unread(format!(
                                "`{path}` of the snapshot {snapshot} was not read: {what}"
                            ));
                            continue;
                        }
                    }
                    let origin = Origin {
                        snapshot: Some(snapshot.clone()),
                        path,
                    };
                    match self.read(&origin, read) {
                        Ok(Some(false)) => return Ok(()),
                        Ok(read) => read_from += u64::from(read.is_some()),
                        Err(Unread::Error(error)) => return Err(error),
                        Err(Unread::Sqlite(error)) => self.found.unread(format!(
                            "the snapshot {snapshot} was not searched to its end: {error}"
                        )),
                    }
                }
            }
        }
        if let Some(one) = left_out.first() {
            self.found.warnings.push(format!(
                "{} tagged shrunk or damaged {} not searched: {}; to read one, name it: `rustic-hapi sessions {one}`",
                if left_out.len() == 1 { "a snapshot" } else { "snapshots" },
                if left_out.len() == 1 { "was" } else { "were" },
                left_out.join(", "),
            ));
        }
        match read_from {
            0 => Err(no_database(&self.found)),
            _ => Ok(()),
        }
    }

    /// Makes the copy what the entry is. Whether it was something else before; or why the repository does not have it.
    fn bring(
        &mut self,
        library: &Library,
        snapshot: &Snapshot,
        entry: &EntryRecord,
    ) -> Result<Result<bool, What>, Error> {
        let (stop, ui) = (self.context.stop, self.context.ui);
        let fetch = library.fetch(snapshot, ui, stop)?;
        let path = entry.path.to_path();
        let folder = self.staging.path();
        let size = entry.size.unwrap_or(0);
        let number = self.copies.len();
        let copy = match self.copies.entry(path.clone()) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                let free = free_at(folder).unwrap_or(u64::MAX);
                let needed = size.saturating_add(MARGIN);
                if free < needed {
                    return Err(Error::NoRoom {
                        path: folder.to_path_buf(),
                        free,
                        needed,
                    });
                }
                let file = folder.join(format!("database-{number}"));
                place.insert(Rolling::new(file).map_err(Error::at(folder))?)
            }
        };
        ui.start(&format!("fetching {snapshot}"), size);
        let came = copy.become_of(fetch, entry);
        ui.end();
        match came {
            Ok(is_new) => Ok(Ok(is_new)),
            Err(Failure::Stopped) => Err(CaptureError::Stopped.into()),
            Err(Failure::Local(error)) => Err(Error::at(folder)(error)),
            Err(Failure::Difference(what)) => match what.denied() {
                Some(reason) => Err(may_not_read(reason.clone())),
                None => Ok(Err(what)),
            },
        }
    }

    /// `None` where it is not a hub's.
    fn read(&mut self, origin: &Origin, read: &mut Reader<'_>) -> Result<Option<bool>, Unread> {
        let Some(copy) = self.copies.get(&origin.path) else {
            return Ok(None);
        };
        let read = match Database::open(copy.path(), self.context.stop)? {
            Opened::Hubs(database) => read(&database, origin).map(Some),
            Opened::Lacks(tables) => {
                if let Some(what) = lacks(&origin.path, &tables) {
                    self.found.unread(format!("{}: {what}", origin.in_words()));
                }
                Ok(None)
            }
        };
        match self.context.stop.is_set() {
            true => Err(Unread::Error(CaptureError::Stopped.into())),
            false => read,
        }
    }
}

/// The databases of a source that are a hub's: by the tables that the profile counts, whether they were there or not,
/// or by the usual name where it counts none.
fn databases(record: &SourceRecord) -> Vec<&EntryRecord> {
    let is_hubs = |entry: &&EntryRecord| {
        let Some(facts) = &entry.database else {
            return false;
        };
        let has = |table: &str| facts.rows.contains_key(table);
        match facts.rows.is_empty() {
            true => entry.path.to_path().ends_with("hapi.db"),
            false => has("sessions") && has("messages"),
        }
    };
    record.entries.iter().filter(is_hubs).collect()
}

fn nothing_sound(snapshot: &Snapshot, outcome: Outcome) -> Error {
    let how = match outcome.is_sound() {
        true => "tagged shrunk: it has far less than the one before it",
        false => outcome.in_words(),
    };
    let id = snapshot.short_id();
    Error::NoSnapshot {
        fact: format!(
            "no snapshot holds the database whole; it is best in {snapshot}, where it is {how}"
        ),
        hint: format!(
            "to read that one, name it: `rustic-hapi sessions {id}`, `rustic-hapi export SESSION --snapshot {id}`"
        ),
    }
}

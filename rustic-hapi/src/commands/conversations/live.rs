//! The live databases of a profile, each read in a copy of one state: the hub goes on, and nothing of it is opened but by
//! SQLite, as a snapshot does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hapi_sources::{CaptureError, Capturer, Content, IntegrityCheck, Kind, Source};

use super::findings::{Findings, lacks, no_database};
use super::origin::{Origin, Reader, Unread};

use crate::commands::context::Context;
use crate::conversation::database::{Database, Opened};
use crate::error::Error;
use crate::machine::private_files::private_staging;
use crate::profile::reading::Reading;

/// Hands each to `read` until it has enough. Returns what the operator should know.
pub(super) fn each(
    from: Reading<'_>,
    context: &Context<'_>,
    read: &mut Reader<'_>,
) -> Result<Findings, Error> {
    let Some(profile) = from.profile else {
        return Err(Error::usage(
            "`--live` reads the database of the profile, and there is no profile here",
            "name a profile: `--profile NAME`",
        ));
    };
    let staging = private_staging(&profile.staging)?;
    let mut found = Findings::default();
    let mut hubs = 0u64;
    let sources = profile.sources.iter().map(|source| &source.source);
    // Other databases need not be copied to find out that they are no hub's.
    let counts = |source: &Source, table: &str| source.count.iter().any(|counted| counted == table);
    let is_hubs = |source: &&Source| {
        let counted = counts(source, "sessions") && counts(source, "messages");
        source.kind == Kind::Sqlite && (counted || source.path.ends_with("hapi.db"))
    };
    for source in sources.filter(is_hubs) {
        // Nobody waits for a verdict here.
        let mut source = source.clone();
        source.integrity = IntegrityCheck::Quick;
        let done = Arc::new(AtomicBool::new(false));
        let mut capturer = Capturer::new(&staging, std::slice::from_ref(&source))?
            .observer(context.ui)
            .presume_sound(true)
            .stop(context.stop.clone().or(Arc::clone(&done)));
        let capture = capturer.capture(&source);
        done.store(true, Ordering::SeqCst);
        let capture = capture?;
        for failure in &capture.failures {
            let path = failure.path.display();
            found.unread(format!("`{path}` was not read: {}", failure.error));
        }
        for entry in &capture.entries {
            let Content::Database { bytes, .. } = &entry.content else {
                continue;
            };
            let Some(copy) = bytes.staged_path() else {
                continue;
            };
            let at = |error: rusqlite::Error| Error::Tool {
                command: format!("reading `{}`", entry.path.display()),
                reason: error.to_string(),
            };
            let database = match Database::open(copy, context.stop).map_err(at)? {
                Opened::Hubs(database) => database,
                Opened::Lacks(tables) => {
                    if let Some(what) = lacks(&entry.path, &tables) {
                        found.unread(what);
                    }
                    continue;
                }
            };
            hubs += 1;
            let origin = Origin {
                snapshot: None,
                path: entry.path.clone(),
            };
            let read = read(&database, &origin);
            if context.stop.is_set() {
                return Err(CaptureError::Stopped.into());
            }
            match read {
                Ok(true) => {}
                Ok(false) => return Ok(found),
                Err(Unread::Error(error)) => return Err(error),
                Err(Unread::Sqlite(error)) => return Err(at(error)),
            }
        }
    }
    match hubs {
        0 if !found.warnings.is_empty() => Err(no_database(&found)),
        0 => Err(Error::usage(
            "the profile has no source that is a hub's database",
            "`rustic-hapi profile show` lists the sources",
        )),
        _ => Ok(found),
    }
}

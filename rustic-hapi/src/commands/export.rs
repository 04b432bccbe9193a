//! An export writes one conversation into a file of the operator's (0600), or to standard output.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hapi_sources::CaptureError;

use crate::commands::context::Context;
use crate::commands::conversations::origin::{Origin, Place, Unread};
use crate::commands::conversations::{Findings, each_database};
use crate::conversation::database::Database;
pub use crate::conversation::export::Format;
use crate::conversation::plain::one_line;
use crate::conversation::renderer::Conversation;
use crate::conversation::session::Session;
use crate::conversation::stored::{Content, Message};
use crate::error::Error;
use crate::machine::able::{keeps_private, sync_file};
use crate::machine::private_files::{UNFINISHED, give_to_owner_of};
use crate::machine::shell::quoted;
use crate::profile::reading::Reading;

/// Digits of an id that name a session.
const SHORTEST: usize = 4;

/// Ids that an error names at most.
const NAMED: usize = 8;

/// What is exported, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// The session: its id, or how that begins.
    pub session: String,
    /// From where.
    pub place: Place,
    /// Another host's snapshots than the profile's.
    pub host: Option<String>,
    /// As what.
    pub format: Format,
    /// Into which new file; standard output if none.
    pub output: Option<PathBuf>,
}

/// What was exported.
#[derive(Debug)]
pub struct Report {
    /// The session.
    pub session: Session,
    /// Where it was read.
    pub origin: Origin,
    /// As what.
    pub format: Format,
    /// The file.
    pub output: Option<PathBuf>,
    /// Messages that were written.
    pub messages: u64,
    /// Those of them that cannot be read; each says why where it stands.
    pub unreadable: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// From the opening of the repository on.
    pub took: Duration,
}

/// Exports one conversation. What has no file is written to `stdout`.
///
/// # Errors
/// There is no such session, or more than one; the file exists; and those of the repository, the live database and
/// the staging folder.
pub fn run(
    from: Reading<'_>,
    request: &Request,
    stdout: &mut dyn Write,
    context: &Context<'_>,
) -> Result<Report, Error> {
    let started = Instant::now();
    let wanted = request.session.trim();
    if wanted.len() < SHORTEST {
        return Err(Error::usage(
            format!("`{wanted}` is too short for a session's id"),
            "give 4 or more characters of it; `rustic-hapi sessions` lists them",
        ));
    }
    if let Some(path) = &request.output {
        is_free(path)?;
    }
    let mut exported = None;
    let found = each_database(
        from,
        &request.place,
        request.host.as_deref(),
        context,
        &mut |database, origin| {
            let Some(session) = one(database.sessions_like(wanted)?, wanted)? else {
                return Ok(true);
            };
            let report = write(database, session, origin, request, stdout, context)?;
            exported = Some(report);
            Ok(false)
        },
    )?;
    let Some(mut report) = exported else {
        return Err(no_session(wanted, &request.place, &found));
    };
    report.warnings.splice(..0, found.warnings);
    report.took = started.elapsed();
    Ok(report)
}

/// The session that is meant.
fn one(mut found: Vec<Session>, wanted: &str) -> Result<Option<Session>, Unread> {
    if let Some(exact) = found.iter().position(|session| session.id == wanted) {
        return Ok(Some(found.swap_remove(exact)));
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        several => {
            let ids = found.iter().take(NAMED);
            let ids: Vec<_> = ids.map(|one| one_line(&one.id, 64)).collect();
            Err(Unread::Error(Error::usage(
                format!(
                    "`{wanted}` is the beginning of {several} sessions' ids: {}{}",
                    ids.join(", "),
                    if several > NAMED { ", …" } else { "" },
                ),
                "give more characters of it; `rustic-hapi sessions --json` has the ids in full",
            )))
        }
    }
}

fn write(
    database: &Database,
    session: Session,
    origin: &Origin,
    request: &Request,
    stdout: &mut dyn Write,
    context: &Context<'_>,
) -> Result<Report, Unread> {
    let mut report = Report {
        origin: origin.clone(),
        format: request.format,
        output: request.output.clone(),
        messages: 0,
        unreadable: 0,
        bytes: 0,
        warnings: Vec::new(),
        took: Duration::ZERO,
        session,
    };
    match &request.output {
        None => {
            let place = Path::new("standard output");
            render(database, &mut report, stdout, place, context)?;
        }
        Some(path) => {
            let at = |error| Unread::Error(Error::at(path)(error));
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let mut file = tempfile::Builder::new()
                .prefix(UNFINISHED)
                .tempfile_in(folder)
                .map_err(|error| Unread::Error(Error::at(folder)(error)))?;
            if keeps_private(file.path()).is_err() {
                report.warnings.push(format!(
                    "other users can read `{}`: this file system has no file modes",
                    path.display()
                ));
            }
            render(database, &mut report, file.as_file_mut(), path, context)?;
            give_to_owner_of(folder, file.as_file()).map_err(at)?;
            sync_file(file.as_file()).map_err(at)?;
            file.persist_noclobber(path)
                .map_err(|error| at(error.error))?;
        }
    }
    Ok(report)
}

fn render(
    database: &Database,
    report: &mut Report,
    out: &mut dyn Write,
    place: &Path,
    context: &Context<'_>,
) -> Result<(), Unread> {
    let at = |error| Unread::Error(Error::at(place)(error));
    let notes = database.notes(&report.session.id)?;
    let origin = format!(
        "{}, {}",
        report.origin.in_words(),
        report.origin.path.display()
    );
    let conversation = Conversation {
        session: &report.session,
        notes: &notes,
        origin: &origin,
        exported_at: context.now(),
    };
    let mut out = Counted {
        // Whoever takes it may write each of them to a disk.
        out: BufWriter::with_capacity(1 << 20, out),
        bytes: 0,
    };
    let mut renderer = report.format.renderer();
    renderer.begin(&conversation, &mut out).map_err(at)?;
    let (mut messages, mut unreadable) = (0, 0);
    database.messages::<Unread>(&report.session.id, &mut |message: Message| {
        // SQLite was stopped as well, so this may be no message.
        if context.stop.is_set() {
            return Err(Unread::Error(CaptureError::Stopped.into()));
        }
        let count = message.stands_for(messages + 1, report.session.messages);
        messages += count;
        unreadable += if is_lost(&message, report.format) {
            count
        } else {
            0
        };
        renderer.message(&message, &mut out).map_err(at)?;
        Ok(true)
    })?;
    renderer.end(&mut out).map_err(at)?;
    out.flush().map_err(at)?;
    (report.messages, report.unreadable, report.bytes) = (messages, unreadable, out.bytes);
    Ok(())
}

/// Whether something of a message is missing in the export: JSON has no place for what is no JSON.
fn is_lost(message: &Message, format: Format) -> bool {
    match message.content {
        Content::Json(_) => false,
        Content::Text(_) => format == Format::Json,
        Content::Unreadable(_) | Content::RestUnreadable(_) => true,
    }
}

/// Nothing is replaced: not a page of before, and not a file that was named by mistake.
fn is_free(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::at(path)(error)),
        Ok(_) => Err(Error::usage(
            format!("`{}` exists", path.display()),
            "name a new file: `-o FILE`",
        )),
    }
}

fn no_session(wanted: &str, place: &Place, found: &Findings) -> Error {
    let whose = match place {
        Place::AllSnapshots => "no snapshot has a session",
        Place::Live => "the live database has no session",
        Place::Snapshot(_) => "the snapshot has no session",
    };
    let mut fact = format!("{whose} whose id begins with `{wanted}`");
    if found.unread > 0 {
        let why = found.warnings.first().map(|why| format!(": {why}"));
        fact += &format!(
            "; {} could not be read{}",
            found.unread,
            why.unwrap_or_default()
        );
    }
    let hint = match place {
        Place::AllSnapshots => {
            "`rustic-hapi sessions --all-snapshots` lists all there are".to_owned()
        }
        _ => format!(
            "look through all snapshots: `rustic-hapi export {} --all-snapshots`",
            quoted(wanted)
        ),
    };
    Error::NoSnapshot { fact, hint }
}

/// Counts what goes through.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

//! Consent is what an in-place restore needs before it replaces anything: which snapshot is meant, and a yes.
//!
//! An id says both. Without one, nothing comes back of which the newest snapshot may be the wrong one, and of the
//! rest only what somebody saw beside what is there now.

use std::fs;
use std::path::Path;

use chrono::{DateTime, Local};
use hapi_sources::{CaptureError, Kind, Stop, count_live};

use crate::commands::restore_in_place::item::Item;
use crate::commands::restore_in_place::request::Request;
use crate::error::Error;
use crate::machine::process::host_name;
use crate::machine::shell::quoted;
use crate::policy::choice::Choice;
use crate::policy::counts::counts;
use crate::policy::description::{Outcome, SourceSummary};
use crate::policy::history::Snapshot;
use crate::policy::manifest::EntryRecord;
use crate::profile::reading::Reading;
use crate::restore::library::Library;
use crate::terminal::prompt::{self, Consent};
use crate::words::{bytes, grouped, plural};

/// Refuses what only an id may decide: the newest snapshot of a source lost something or is damaged, or is another
/// host's.
///
/// # Errors
/// A usage error with the commands there are, and what each brings back.
pub(super) fn is_decided(
    from: Reading<'_>,
    request: &Request,
    choices: &[Choice],
    library: &mut Library,
    now: DateTime<Local>,
) -> Result<(), Error> {
    if request.has_id() {
        // SQLite would refuse it at the end of a long way.
        return match choices.iter().find(|c| c.outcome == Outcome::Damaged) {
            Some(choice) => Err(Error::usage(
                format!(
                    "`{}` is damaged in the snapshot {}, so it does not take the live one's place",
                    choice.source, choice.snapshot
                ),
                into_a_folder(&choice.snapshot, &choice.source),
            )),
            None => Ok(()),
        };
    }
    for choice in choices {
        let (fact, others) = match doubt(choice, library) {
            Some(doubt) => doubt,
            None if is_foreign(from, request, &choice.snapshot) => (
                format!(
                    "the snapshot {} of `{}` is of another host or hub ({})",
                    choice.snapshot, choice.source, choice.snapshot.host
                ),
                vec![choice.snapshot.clone()],
            ),
            None => continue,
        };
        let commands: Vec<String> = others
            .iter()
            .map(|snapshot| {
                let summary = library.summary(snapshot, &choice.source);
                match summary.map(|summary| summary.outcome) {
                    Some(Outcome::Damaged) => into_a_folder(snapshot, &choice.source),
                    _ => brings(request, snapshot, choice, None, library, now),
                }
            })
            .collect();
        return Err(Error::usage(
            format!("{fact}: only an id says which is meant"),
            commands.join("; "),
        ));
    }
    Ok(())
}

/// Why the newest snapshot of a source may not be what is wanted, and those it may be, the likelier first.
fn doubt(choice: &Choice, library: &Library) -> Option<(String, Vec<Snapshot>)> {
    let fact = |snapshot: &Snapshot, how: &str| {
        let source = &choice.source;
        format!("the newest snapshot of `{source}`, {snapshot}, {how}")
    };
    let shrunk = "has far less than the one before it (it is tagged shrunk)";
    let of = |damaged: bool| if damaged { "is damaged" } else { shrunk };
    if let Some(newer) = choice.passed_over.iter().find(|newer| newer.is_suspect()) {
        let how = of(newer.outcome == Outcome::Damaged);
        return Some((
            fact(&newer.snapshot, how),
            vec![choice.snapshot.clone(), newer.snapshot.clone()],
        ));
    }
    let damaged = choice.outcome == Outcome::Damaged;
    if !damaged && !choice.shrunk {
        return None;
    }
    let before = library.snapshots.iter().rev().find(|s| {
        s.series == choice.snapshot.series && s.time < choice.snapshot.time && s.is_unsuspected()
    });
    let mut others: Vec<Snapshot> = before.cloned().into_iter().collect();
    others.push(choice.snapshot.clone());
    Some((fact(&choice.snapshot, of(damaged)), others))
}

/// Whether a snapshot is of another host than the profile's, or, without one, than this machine.
fn is_foreign(from: Reading<'_>, request: &Request, snapshot: &Snapshot) -> bool {
    let ours = from.profile.map(|profile| &profile.host);
    let asked = request.host.as_ref().filter(|_| ours.is_some());
    let here = ours.cloned().unwrap_or_else(host_name);
    snapshot.host != here || asked.is_some_and(|host| *host != here)
}

fn into_a_folder(snapshot: &Snapshot, source: &str) -> String {
    format!(
        "`rustic-hapi restore {} --target DIR --source {}` brings the damaged one into a folder, for `sqlite3 FILE .recover`",
        snapshot.short_id(),
        quoted(source)
    )
}

/// "`rustic-hapi restore 12345678 --in-place` brings back 25 sessions, 300 messages, the newest 3 h old".
fn brings(
    request: &Request,
    snapshot: &Snapshot,
    choice: &Choice,
    source: Option<&str>,
    library: &mut Library,
    now: DateTime<Local>,
) -> String {
    let summary = library.summary(snapshot, &choice.source);
    format!(
        "`{}` brings back {}, of {}",
        request.command(snapshot, source),
        summary.map_or_else(|| choice.source.clone(), |s| holds(&s, &choice.source, now)),
        snapshot.time.format("%Y-%m-%d %H:%M")
    )
}

fn holds(summary: &SourceSummary, source: &str, now: DateTime<Local>) -> String {
    match counts(summary, None, now) {
        counts if counts.is_empty() => format!("{source}, {}", bytes(summary.bytes)),
        counts => counts,
    }
}

/// Gets a yes: from `--yes`, from an id where nobody is there, else from somebody who is shown what is there now and
/// what would come.
///
/// # Errors
/// Nobody says yes, or somebody no.
pub(super) fn agreed(
    request: &Request,
    choices: &[Choice],
    items: &[Item],
    library: &mut Library,
    now: DateTime<Local>,
    stop: &Stop,
) -> Result<(), Error> {
    match request.consent {
        Consent::Given => return Ok(()),
        Consent::Nobody if request.has_id() => return Ok(()),
        Consent::Nobody => {
            let one = choices
                .iter()
                .all(|choice| choice.snapshot.id == choices[0].snapshot.id);
            let commands: Vec<String> = choices
                .iter()
                .take(if one { 1 } else { choices.len() })
                .map(|choice| {
                    let source = (!one).then_some(choice.source.as_str());
                    brings(request, &choice.snapshot, choice, source, library, now)
                })
                .collect();
            return Err(Error::usage(
                "nothing was changed: replacing the live files needs an answer, and there is no terminal to ask on",
                format!(
                    "{}; `--yes` takes the newest good snapshot without asking",
                    commands.join("; ")
                ),
            ));
        }
        Consent::Terminal => {}
    }
    let mut question = String::new();
    for choice in choices {
        question += &shown(choice, items, now, stop)?;
    }
    match prompt::agrees(
        &format!("{question}replace what is there now (it is set aside)?"),
        stop,
    )? {
        true => Ok(()),
        false => Err(Error::Usage {
            fact: "nothing was changed: the answer was not `y`".into(),
            hint: None,
        }),
    }
}

/// A source as it is, and as it would be.
fn shown(
    choice: &Choice,
    items: &[Item],
    now: DateTime<Local>,
    stop: &Stop,
) -> Result<String, Error> {
    let mut text = String::new();
    let of_source = || items.iter().filter(|i| i.choice.source == choice.source);
    for item in of_source().filter(|item| item.record.kind == Kind::Sqlite) {
        let then = |rows, newest| SourceSummary {
            rest: false,
            kind: Kind::Sqlite,
            outcome: Outcome::Complete,
            bytes: 0,
            files: 1,
            rows,
            entries: None,
            newest,
            schema: Vec::new(),
            unchecked: false,
        };
        let comes = item.entry.database.as_ref().map_or_else(String::new, |d| {
            counts(&then(d.rows.clone(), d.newest.clone()), None, now)
        });
        let live = match there(&item.live, &item.entry, stop) {
            Ok(Some(found)) => counts(&then(found.rows, found.newest), None, now),
            Ok(None) => "nothing".to_owned(),
            Err(CaptureError::Stopped) => return Err(CaptureError::Stopped.into()),
            Err(error) => format!("unknown: {error}"),
        };
        text += &format!(
            "{}\n  {:27}{live}\n  snapshot {}: {comes}\n",
            item.live.display(),
            "now:",
            choice.snapshot.time.format("%Y-%m-%d %H:%M"),
        );
    }
    let others = of_source().filter(|item| item.record.kind != Kind::Sqlite);
    let sizes: Vec<u64> = others.filter_map(|item| item.entry.size).collect();
    if !sizes.is_empty() {
        let number = sizes.len() as u64;
        text += &format!(
            "{}: {} {}, {}, of {}\n",
            choice.source,
            grouped(number),
            plural(number, "file", "files"),
            bytes(
                sizes
                    .iter()
                    .fold(0, |sum: u64, size| sum.saturating_add(*size))
            ),
            choice.snapshot.time.format("%Y-%m-%d %H:%M"),
        );
    }
    Ok(text)
}

/// What a live database holds; `None` where there is none.
fn there(
    live: &Path,
    entry: &EntryRecord,
    stop: &Stop,
) -> Result<Option<hapi_sources::Counts>, CaptureError> {
    let (Some(known), Ok(_)) = (&entry.database, fs::metadata(live)) else {
        return Ok(None);
    };
    let tables: Vec<_> = known.rows.keys().cloned().collect();
    let columns: Vec<_> = known.newest.keys().cloned().collect();
    count_live(live, &tables, &columns, stop).map(Some)
}

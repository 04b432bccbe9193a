//! A draft is what the snapshot of a series will be: manifest, description and tags, drawn up from its
//! captures and from the snapshots before it, and the archive of them.

use chrono::{DateTime, Local, TimeDelta};
use hapi_sources::{Capture, CaptureError, Note, Sha256Hash};
use sha2::{Digest, Sha256};

use crate::archive::Archive;
use crate::archive::taken::Taken;
use crate::error::Error;
use crate::policy::description::Description;
use crate::policy::history::{DAMAGED, ONLY, PARTIAL, SHRUNK, Snapshot, WAL_KEPT};
use crate::policy::losses::{Judgement, Losses};
use crate::policy::manifest::{Beside, Manifest};
use crate::policy::notes::describe_note;
use crate::policy::uncovered::Uncovered;
use crate::profile::Profile;
use crate::profile::sources::{Series, SeriesSource};

/// Draws a snapshot up, with the tags that were asked for; `None` where nothing of the series exists and nothing has to.
///
/// # Errors
/// [`Error::NothingCaptured`] where something should exist.
#[allow(
    clippy::too_many_arguments,
    reason = "each is another thing that a snapshot is drawn up from"
)]
pub(crate) fn of(
    profile: &Profile,
    more_tags: &[String],
    history: &[Snapshot],
    series: &Series,
    sources: &[SeriesSource],
    time: DateTime<Local>,
    captured: &[Result<Capture, CaptureError>],
    beside: &Beside,
) -> Result<Option<(Taken, Archive)>, Error> {
    let manifest = Manifest::of(profile, &series.name, sources, captured, beside);
    let captures: Vec<&Capture> = captured.iter().flatten().collect();
    if !something_was_captured(&series.name, &manifest, &captures)? {
        return Ok(None);
    }
    let bytes = manifest.to_bytes();
    let description = manifest.describe(&bytes);
    let earlier = history
        .iter()
        .filter(|s| s.series == series.name && !s.has(ONLY) && s.time <= time);
    // The snapshot before this one, whatever it is like: what it told need not be told again.
    let latest = earlier.clone().next_back();
    let losses = Losses::of(earlier, &profile.retention);
    let Judgement { lost, lacks } = losses.judge(&description);
    let shrunk_before = lost.is_empty();
    let less = if shrunk_before { lacks } else { lost };
    let shrunk = (!less.is_empty()).then(|| less.join("; "));
    let taken = Taken {
        tags: tags(more_tags, series, &manifest, shrunk.is_some()),
        told_once: told_once(&captures, &manifest),
        uncovered: beside
            .uncovered
            .iter()
            .map(|one| Uncovered::of(profile, one))
            .collect(),
        quiet: gone_quiet(&description, latest, time, profile.alarms.quiet),
        shrunk_before,
        before: losses.before(),
        manifest,
        description,
        shrunk,
        snapshot: None,
    };
    Ok(Some((
        taken,
        Archive::new(&captures, &profile.reach.home, bytes),
    )))
}

/// Whether there is anything to write; that nothing could be captured is an error.
fn something_was_captured(
    series: &str,
    manifest: &Manifest,
    captures: &[&Capture],
) -> Result<bool, Error> {
    if captures.iter().any(|c| !c.entries.is_empty()) {
        return Ok(true);
    }
    let failed = || {
        let sources = manifest.sources.iter();
        sources.flat_map(|s| s.failures.iter().map(move |f| (&s.name, f)))
    };
    let failures: Vec<String> = failed()
        .map(|(name, failure)| format!("{name}: {}", failure.error))
        .collect();
    // An empty glob is a state worth a snapshot; sources that are all absent are not.
    if failures.is_empty() {
        return Ok(captures.iter().any(|c| !c.absent));
    }
    Err(Error::NothingCaptured {
        series: series.to_owned(),
        failures,
        // Of the first one: they mostly fail together.
        hint: failed().find_map(|(_, failure)| failure.hint.clone()),
    })
}

fn tags(more: &[String], series: &Series, manifest: &Manifest, shrunk: bool) -> Vec<String> {
    let mut tags = vec![series.name.clone()];
    let conditions = [
        (!manifest.is_complete(), PARTIAL),
        (manifest.is_damaged(), DAMAGED),
        (shrunk, SHRUNK),
        (manifest.kept_side_files().next().is_some(), WAL_KEPT),
    ];
    tags.extend(
        conditions
            .iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, tag)| (*tag).to_owned()),
    );
    tags.extend_from_slice(more);
    tags
}

/// Databases whose newest row has been the newest for longer than it should: is it still the one that
/// the hub uses? Told when it comes to that, and again after as long a time, not by each run.
fn gone_quiet(
    description: &Description,
    before: Option<&Snapshot>,
    now: DateTime<Local>,
    quiet: TimeDelta,
) -> Vec<String> {
    let mut told = Vec::new();
    for (name, source) in &description.sources {
        let Some(newest) = source.newest_time() else {
            continue;
        };
        let periods = |at: DateTime<chrono::Utc>, newest: DateTime<chrono::Utc>| {
            (at - newest)
                .num_minutes()
                .div_euclid(quiet.num_minutes().max(1))
        };
        // By the rows of then: an older database that takes the place of a busy one is quiet from now on.
        let at_last = before.map_or(0, |before| {
            let description = before.description.as_ref();
            let then = description.and_then(|d| d.sources.get(name)?.newest_time());
            periods(before.time.to_utc(), then.unwrap_or(newest))
        });
        if periods(now.to_utc(), newest) > at_last.max(0) {
            told.push(format!(
                "the newest row of {name} is {} old: is it the database that the hub uses?",
                crate::words::age(now.to_utc() - newest)
            ));
        }
    }
    told
}

/// What stays so until somebody changes it.
fn told_once(captures: &[&Capture], manifest: &Manifest) -> Vec<(String, Sha256Hash)> {
    let by_text = |text: String| {
        let key = Sha256Hash(Sha256::digest(&text).into());
        (text, key)
    };
    let notes = captures.iter().flat_map(|c| &c.notes);
    let lasting = notes.filter_map(|note| match note {
        // A file with other words may quote another secret.
        Note::QuotesSecret { sha256, .. } => Some((describe_note(note), *sha256)),
        Note::SecretCache { .. } => None,
        note => Some(by_text(describe_note(note))),
    });
    let sources = manifest.sources.iter();
    let rows = sources.filter_map(|s| s.rows_without_file()).map(by_text);
    lasting.chain(rows).collect()
}

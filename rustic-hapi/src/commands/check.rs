//! A check asks whether the repository is sound, and whether it holds what it should.
//! One file, since each look is one step of the same list.
//!
//! The engine looks at structure and data, as `restic check` does. On top of that: does each
//! manifest fit its tree and its snapshot's description, has every series a snapshot, are there as
//! many days as there should be, and is there anything under our tags that is not ours.
//!
//! The data is read in shares, one a week, so that all of it is read in [`SHARES`] weeks without one
//! check reading everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, FixedOffset, Local, NaiveDate};
use hapi_sources::{CaptureError, Stop};
use rustic_core::repofile::{NodeType, SnapshotFile};
use rustic_core::{CheckOptions, FileType, ReadSubsetOption, TreeId};
use serde::{Deserialize, Serialize};

use crate::commands::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::machine::shell::quoted;
use crate::machine::{permission, record};
use crate::policy::history::{self, Snapshot};
use crate::policy::unmatched;
use crate::profile::Profile;
use crate::profile::policy::Policy;
use crate::profile::reach::Reach;
use crate::profile::reading::Reading;
use crate::profile::sources::Rhythm;
use crate::remedy::{LOOK, PERMISSION, of_reason};
use crate::repository::files::Flawed;
use crate::repository::{Engine, Repository};
use crate::restore::contents::Contents;
use crate::restore::origin;
use crate::state::ledger;
use crate::terminal::ui::Ui;
use crate::words::by_restic;

/// Weeks in which all data is read once.
pub const SHARES: u32 = 5;

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// When it began.
    pub time: DateTime<Local>,
    /// The repository's id.
    pub repository: String,
    /// How much of the data was read.
    pub read: Share,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is not wrong, and worth knowing.
    pub notes: Vec<String>,
    /// Snapshots of ours whose manifest was compared with its tree.
    pub snapshots: usize,
    /// From the opening of the repository to the end.
    pub took: Duration,
    /// The repository's folder, where it is one of this machine.
    folder: Option<PathBuf>,
}

/// How much of the data was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Every pack that a snapshot needs.
    All,
    /// This one of [`SHARES`] shares, counted from 1.
    OneOf(u32),
}

/// Something wrong, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The fact.
    pub fact: String,
    /// The remedy.
    pub remedy: String,
}

const REPAIR: &str = concat!(
    by_restic!("rebuild-index"),
    " (from 0.16 on `restic repair index`), then `rustic-hapi snapshot`: it stores again what is missing and still exists here; then `rustic-hapi check --read-data`; a snapshot that is damaged even then is lost: ",
    by_restic!("forget ID")
);
const DISTRUST: &str = "restore nothing from this snapshot; `rustic-hapi drill` proves the others";
const COPY: &str = "put the file back from another copy of the repository";
const RUNS: &str = "check the schedule and its log";

impl Share {
    /// The share whose turn it is: the same for a whole week, and the next one in the next.
    pub fn of_week(now: DateTime<Local>) -> Self {
        let days = now
            .date_naive()
            .signed_duration_since(NaiveDate::default())
            .num_days();
        // 1 January 1970 was a Thursday: weeks begin on Mondays.
        let week = (days + 3).div_euclid(7).rem_euclid(i64::from(SHARES));
        Self::OneOf(u32::try_from(week).unwrap_or(0) + 1)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all data that a snapshot needs was read"),
            Self::OneOf(nth) => write!(
                f,
                "a part of the data was read ({nth} of {SHARES}; another each week)"
            ),
        }
    }
}

impl Report {
    /// The exit code: 1 where anything was found.
    pub fn exit(&self) -> Exit {
        match self.findings.is_empty() {
            true => Exit::Complete,
            false => Exit::Failed,
        }
    }

    fn found(&mut self, fact: String, remedy: &str) {
        // What this user may not read is not damaged; that comes from the engine as text, in the system's words.
        let is_denied = fact.contains("Permission denied");
        let barred = match is_denied || fact.contains("Failed to open the file") {
            true => self.barred(),
            false => None,
        };
        let remedy = barred.unwrap_or_else(|| match is_denied {
            true => PERMISSION.to_owned(),
            false => remedy.to_owned(),
        });
        let finding = Finding { fact, remedy };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// What helps where this user may not read a file, by the first such file there is.
    fn barred(&self) -> Option<String> {
        let folder = self.folder.as_deref()?;
        permission::remedy_below(folder, &folder.join("config"))
    }

    /// A file; `remedy` helps where it is damaged.
    fn flawed(&mut self, file: &Flawed, remedy: &'static str) {
        let remedy = match file.is_damaged {
            true => remedy.into(),
            false => of_reason(&file.reason).unwrap_or(LOOK.into()),
        };
        self.found(file.to_string(), &remedy);
    }
}

/// Checks, and writes down how it went.
///
/// # Errors
/// Those of opening and listing the repository; what is wrong in it is in the report.
pub fn run(
    from: Reading<'_>,
    read_data: bool,
    host: Option<&str>,
    context: &Context<'_>,
) -> Result<Report, Error> {
    let (now, stop, ui) = (context.now(), context.stop, context.ui);
    let started = Instant::now();
    let repository = Repository::open(from.reach, stop, ui.clone())?;
    let _held = repository.lock_to_read()?;
    let mut report = Report {
        time: now,
        repository: repository.id(),
        read: match read_data {
            true => Share::All,
            false => Share::of_week(now),
        },
        findings: Vec::new(),
        notes: Vec::new(),
        snapshots: 0,
        took: Duration::ZERO,
        folder: from.reach.location.local().map(Path::to_path_buf),
    };
    let (files, unreadable) = repository.readable_snapshots()?;
    for file in unreadable {
        report.flawed(&file, COPY);
    }
    names_are_hashes(&repository, &mut report)?;
    let ours = origin::readable(&repository, &files, from.profile, host)?;
    match repository.reopen() {
        Err(error) => report.found(error.to_string(), REPAIR),
        Ok(engine) => {
            let trees = whole_trees(&engine, &files, &mut report, stop)?;
            // What is wrong with the others is told already.
            let (whole, broken): (Vec<_>, Vec<_>) = ours.iter().partition(|snapshot| {
                trees
                    .iter()
                    .any(|tree| tree.to_hex().as_str() == snapshot.tree)
            });
            manifests(&engine, &whole, &mut report, stop, ui)?;
            report.snapshots += broken.len();
            engine_check(&repository, trees, &mut report);
        }
    }
    if stop.is_set() {
        return Err(CaptureError::Stopped.into());
    }
    if let Some(profile) = from.profile {
        expectations(&repository, profile, &files, &ours, now, &mut report)?;
    }
    report.took = started.elapsed();
    if let Err(error) = remember(from.reach, &report) {
        let error = error.in_a_warning();
        ui.warn(format_args!("this check was not recorded: {error}"));
    }
    Ok(report)
}

/// Index and key files are called by their hash; the engine does not compare.
fn names_are_hashes(repository: &Repository, report: &mut Report) -> Result<(), Error> {
    for (kind, remedy) in [(FileType::Index, REPAIR), (FileType::Key, COPY)] {
        for file in repository.flawed_files(kind)? {
            report.flawed(&file, remedy);
        }
    }
    Ok(())
}

/// The trees of all snapshots, ours and other people's, that can be walked to their leaves. The
/// engine's check does not survive one that cannot.
fn whole_trees(
    engine: &Engine,
    files: &[SnapshotFile],
    report: &mut Report,
    stop: &Stop,
) -> Result<Vec<TreeId>, Error> {
    let mut known = BTreeMap::new();
    let mut whole = Vec::new();
    for file in files {
        match is_whole(engine, file.tree, 0, &mut known, stop)? {
            Ok(()) => whole.push(file.tree),
            Err(reason) => report.found(
                format!(
                    "the snapshot {} has a tree that cannot be read: {reason}",
                    &file.id.to_hex()[..8]
                ),
                REPAIR,
            ),
        }
    }
    Ok(whole)
}

/// Whether a tree and all below it can be read; each is read once.
fn is_whole(
    engine: &Engine,
    tree: TreeId,
    depth: usize,
    known: &mut BTreeMap<TreeId, Result<(), String>>,
    stop: &Stop,
) -> Result<Result<(), String>, Error> {
    // A path has 4,096 bytes at most, so no more folders than half of that.
    const DEEPEST: usize = 2_048;
    if stop.is_set() {
        return Err(CaptureError::Stopped.into());
    }
    if let Some(known) = known.get(&tree) {
        return Ok(known.clone());
    }
    let mut whole = Ok(());
    match engine.get_tree(&tree) {
        Err(error) => whole = Err(crate::error::one_line(&error)),
        Ok(_) if depth >= DEEPEST => whole = Err("it is deeper than any path".to_owned()),
        Ok(folder) => {
            for below in folder.nodes.iter().filter_map(|node| node.subtree) {
                whole = is_whole(engine, below, depth + 1, known, stop)?;
                if whole.is_err() {
                    break;
                }
            }
        }
    }
    known.insert(tree, whole.clone());
    Ok(whole)
}

/// What helps against a pack that is damaged, in a folder of this machine. The engine names it by the beginning of its
/// id, in words.
fn damaged_pack(repository: &Repository, error: &str) -> Option<String> {
    let folder = repository.location().local()?;
    let mut words = error.split_whitespace();
    words.find(|word| *word == "pack")?;
    let id = words
        .next()
        .filter(|id| id.len() >= 8 && id.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let packs = fs::read_dir(folder.join("data").join(&id[..2]))
        .ok()?
        .flatten();
    let pack = packs.map(|pack| pack.path()).find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(id))
    })?;
    let aside = format!("{}-damaged-{id}", folder.display());
    Some(format!(
        "`mv {} {}` sets the damaged file aside; then {REPAIR}",
        quoted(&pack.to_string_lossy()),
        quoted(&aside)
    ))
}

fn engine_check(repository: &Repository, trees: Vec<TreeId>, report: &mut Report) {
    let mut options = CheckOptions::default();
    options.read_data = true;
    if let Share::OneOf(nth) = report.read {
        options.read_data_subset = ReadSubsetOption::IdSubSet((nth, SHARES));
    }
    match repository.check(options, trees) {
        Ok((errors, warnings)) => {
            for error in errors {
                let remedy = damaged_pack(repository, &error);
                report.found(error, remedy.as_deref().unwrap_or(REPAIR));
            }
            report.notes.extend(warnings);
        }
        // What it stumbles over is as bad as what it finds.
        Err(error) => report.found(error.to_string(), REPAIR),
    }
}

/// Whether each snapshot of ours is what it says.
fn manifests(
    engine: &Engine,
    ours: &[&Snapshot],
    report: &mut Report,
    stop: &Stop,
    ui: &Ui,
) -> Result<(), Error> {
    // An unchanged state is an unchanged tree: once is enough, where the description is the same.
    let mut seen = BTreeMap::new();
    // By tree, and of the newest of each series.
    let (mut rows, mut newest) = (BTreeMap::new(), BTreeMap::new());
    for snapshot in ours {
        newest.insert(snapshot.series.as_str(), snapshot.tree.as_str());
        if stop.is_set() {
            return Err(CaptureError::Stopped.into());
        }
        ui.step(format_args!("comparing {snapshot} with its manifest"));
        report.snapshots += 1;
        let key = (snapshot.tree.clone(), snapshot.tags.clone());
        if seen.get(&key) == Some(&snapshot.description) {
            continue;
        }
        match Contents::load(engine, snapshot) {
            Err(reason) => report.found(format!("{snapshot}: {reason}"), DISTRUST),
            Ok(contents) => {
                let differences = contents.mismatches.iter().chain(&contents.differences);
                let mut sound = true;
                for what in differences {
                    sound = false;
                    report.found(format!("{snapshot}: {what}"), DISTRUST);
                }
                for what in blobs_add_up(engine, &contents) {
                    sound = false;
                    report.found(format!("{snapshot}: {what}"), DISTRUST);
                }
                if snapshot.description.is_none() {
                    report.notes.push(format!(
                        "{snapshot} lost its description (`restic tag` and `restic copy` do that): its manifest was compared with its tree alone"
                    ));
                }
                let sources = contents.manifest.sources.iter();
                let without_file: Vec<_> = sources.filter_map(|s| s.rows_without_file()).collect();
                rows.insert(snapshot.tree.as_str(), without_file);
                if sound {
                    seen.insert(key, snapshot.description.clone());
                }
            }
        }
    }
    let of_newest = newest.values().filter_map(|tree| rows.remove(tree));
    report.notes.extend(of_newest.flatten());
    Ok(())
}

/// Whether the blobs of each file add up to its size, by the index.
fn blobs_add_up(engine: &Engine, contents: &Contents) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, node) in contents.nodes() {
        if node.node_type != NodeType::File {
            continue;
        }
        let sum: Option<u64> = node
            .content
            .iter()
            .flatten()
            .map(|id| {
                let entry = engine.get_index_entry(id).ok()?;
                Some(u64::from(entry.data_length()))
            })
            .sum();
        match sum {
            Some(sum) if sum == node.meta.size => {}
            Some(sum) => findings.push(format!(
                "`{}` has {sum} bytes, {} by its tree",
                path.display(),
                node.meta.size
            )),
            None => findings.push(format!(
                "blobs of `{}` are not in the index",
                path.display()
            )),
        }
    }
    findings
}

/// What should be there, and what should not.
fn expectations(
    repository: &Repository,
    profile: &Profile,
    files: &[SnapshotFile],
    ours: &[Snapshot],
    now: DateTime<Local>,
    report: &mut Report,
) -> Result<(), Error> {
    let born = [repository.first_key_made()?, ours.first().map(|s| s.time)];
    let age = born
        .iter()
        .flatten()
        .min()
        .map_or(0, |born| (now.fixed_offset() - *born).num_days());
    report
        .notes
        .extend(unmatched::nothing_matches(profile, ours, files));
    for series in &profile.series {
        if ours.iter().any(|s| s.series == series.name) {
            continue;
        }
        let fact = format!("the series `{}` has no snapshot", series.name);
        // The first slot of a new repository may still come.
        match age {
            0 => report.notes.push(format!("{fact} yet")),
            _ => report.found(fact, RUNS),
        }
    }
    for series in &profile.series {
        if series.rhythm != Rhythm::EveryRun {
            continue;
        }
        let days: BTreeSet<NaiveDate> = ours
            .iter()
            .filter(|s| s.series == series.name && s.is_complete())
            .map(|s| s.time.with_timezone(&Local).date_naive())
            .collect();
        let kept = i64::try_from(days.len()).unwrap_or(i64::MAX);
        let wanted = i64::from(Policy::FLOOR_DAYS).min(age);
        // The day it was made may have had no slot, and today's may not have come yet.
        if age >= 2 && kept < wanted - i64::from(age < i64::from(Policy::FLOOR_DAYS)) {
            report.found(
                format!(
                    "complete snapshots of `{}` are kept of {kept} distinct days only; the repository is {age} days old",
                    series.name
                ),
                "runs were missed, or snapshots were removed: `rustic-hapi snapshots` shows the remaining days",
            );
        }
    }

    let tagged = |file: &&SnapshotFile| {
        let mut series = profile.series.iter();
        series.any(|s| file.tags.iter().any(|tag| *tag == s.name))
    };
    let mut strays: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files.iter().filter(tagged) {
        if file.hostname != profile.host && !profile.other_hosts.contains(&file.hostname) {
            *strays.entry(&file.hostname).or_default() += 1;
        } else if file.hostname == profile.host && file.username != history::USERNAME {
            report.notes.push(format!(
                "{} has the tag of a series and was not written by this program: retention leaves it alone",
                &file.id.to_hex()[..8]
            ));
        }
    }
    for what in ledger::look(profile, repository, files, ours, &now)?.all() {
        report.found(
            what,
            "find out who else may write and delete in the repository; `rustic-hapi snapshots` lists what is left",
        );
    }
    for hub in origin::others_of_host(repository, files, profile) {
        report.notes.push(format!(
            "another hub of this host has snapshots here: {hub}"
        ));
    }
    for (host, number) in strays {
        report.found(
            format!(
                "{number} snapshots under the series' tags are of the host `{host}`, this profile's is `{}`",
                profile.host
            ),
            "if two share the repository, name the other in `other-hosts` of `[repository]`; if the host was renamed, write its name as `host` in the profile",
        );
    }
    Ok(())
}

/// The last check that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Last {
    /// When it began.
    pub time: DateTime<FixedOffset>,
    /// The repository's id.
    pub repository: String,
    /// How much it read.
    pub read: Share,
    /// How many things it found wrong.
    pub findings: usize,
}

fn remember(reach: &Reach, report: &Report) -> Result<(), Error> {
    let last = Last {
        time: report.time.fixed_offset(),
        repository: report.repository.clone(),
        read: report.read,
        findings: report.findings.len(),
    };
    record::store(&reach.state.join("check.json"), &last)
}

/// The last check of this profile's repository, if there was one.
///
/// # Errors
/// [`Error::State`] where the record cannot be read; one that makes no sense counts as none.
pub fn last(reach: &Reach) -> Result<Option<Last>, Error> {
    record::load(&reach.state.join("check.json"))
}

#[cfg(test)]
mod tests {
    use chrono::{Days, TimeZone};

    use super::*;

    #[test]
    fn all_shares_have_their_week() {
        let monday = Local.with_ymd_and_hms(2026, 11, 23, 6, 0, 0).unwrap();
        let week = |n: u64| Share::of_week(monday + Days::new(7 * n));
        assert_eq!(week(0), Share::of_week(monday + Days::new(6)));
        assert_ne!(week(0), week(1));
        let mut all: Vec<_> = (0..u64::from(SHARES))
            .map(|n| format!("{:?}", week(n)))
            .collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), SHARES as usize);
        assert_eq!(week(0), week(u64::from(SHARES)));
    }
}

//! A restore brings sources back into a folder, each file proven before it has its name.
//!
//! snapshot ─> contents ─> fetch ─> compare with manifest ─> on the disk ─> its name
//!
//! Interrupted at any point it leaves no half-written file under a real name, and run again it
//! finishes: what is there and equal is left as it is. `restore_in_place` is for the hub's own files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hapi_sources::{Identities, Kind, Scope};

use crate::commands::context::Context;
use crate::error::Error;
use crate::machine::holders;
use crate::machine::shell::quoted;
use crate::machine::target::Target;
use crate::policy::choice::{Choice, Which};
use crate::profile::reading::Reading;
use crate::remedy::of_reason;
use crate::repository::Repository;
use crate::restore::library::{Library, warnings_of};
use crate::restore::restorer::{Restorer, SourceReport};

/// What a restore is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which snapshots.
    pub which: Which,
    /// Where to.
    pub target: PathBuf,
    /// Only these sources; all of them if empty.
    pub sources: Vec<String>,
    /// Another host's snapshots than the profile's.
    pub host: Option<String>,
    /// Replace what is in the way.
    pub overwrite: bool,
    /// Say what would be restored; write nothing.
    pub dry_run: bool,
}

/// What a restore did.
#[derive(Debug)]
pub struct Report {
    /// Where to.
    pub target: PathBuf,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// By source, in the profile's order.
    pub sources: Vec<SourceReport>,
    /// Sources that no snapshot holds, and whether they are required.
    pub nowhere: Vec<(String, bool)>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// From the opening of the repository to the last byte on the disk.
    pub took: Duration,
}

/// Restores into a folder.
///
/// # Errors
/// Those of the repository and of the target. Where a file is not what its manifest says, that is in
/// the report, and the others are restored.
pub fn run(
    from: Reading<'_>,
    request: &Request,
    identities: Option<&Identities>,
    context: &Context<'_>,
) -> Result<Report, Error> {
    let (now, stop, ui) = (context.now(), context.stop, context.ui);
    let started = Instant::now();
    if fs::canonicalize(&request.target).is_ok_and(|target| target == Path::new("/")) {
        return Err(Error::usage(
            "refusing to restore into `/`: a database next to an old `-wal` file would be corrupted",
            "restore into an empty folder, or use `rustic-hapi restore --in-place`",
        ));
    }
    let repository = Repository::open(from.reach, stop, ui.clone())?;
    let _held = repository.lock_to_read()?;
    let mut library = Library::open(&repository, from.profile, request.host.as_deref())?;
    let chosen = library.choose(from.profile, &request.which, &request.sources, now)?;
    let mut warnings = library.unreadable.clone();
    if let Some(remedy) = library.denied.take().as_ref().and_then(of_reason) {
        warnings.push(format!(
            "this user may not read all snapshots; hint: {remedy}"
        ));
    }
    warnings.extend(warnings_of(&chosen, &library.snapshots));

    let mut plan = Vec::new();
    for choice in chosen.choices {
        let contents = library.contents(&choice.snapshot)?;
        contents.is_trustworthy(&choice.snapshot)?;
        plan.push(choice);
    }
    away_from_the_sources(from, request, &plan, &library)?;
    let mut report = Report {
        target: request.target.clone(),
        dry_run: request.dry_run,
        sources: Vec::new(),
        nowhere: chosen.nowhere,
        warnings,
        took: Duration::ZERO,
    };
    if request.dry_run {
        for choice in plan {
            let record = library.record(&choice)?;
            report
                .sources
                .push(SourceReport::planned(choice, record, identities));
        }
        report.took = started.elapsed();
        return Ok(report);
    }

    let target = Target::open(&request.target)?;
    report.target = target.path().to_path_buf();
    if !target.has_modes() {
        report.warnings.push(format!(
            "other users can read what is in `{}`: this file system has no file modes",
            target.path().display()
        ));
    }
    let restorer = Restorer {
        target: &target,
        identities,
        overwrite: request.overwrite,
        ui,
        stop,
    };
    restorer.nothing_in_the_way(&plan, &library)?;
    for choice in plan {
        let came = restorer.bring(&repository, &mut library, choice)?;
        report.sources.push(came);
    }
    restorer.apply_to_folders(&report.sources, &library)?;
    target.sync()?;
    report.took = started.elapsed();
    Ok(report)
}

/// The same into a folder of its own.
fn elsewhere(request: &Request) -> String {
    let mut command = "rustic-hapi restore".to_owned();
    if let Which::Named(name) = &request.which {
        command += &format!(" {}", quoted(name));
    }
    if let Some(host) = &request.host {
        command += &format!(" --host {}", quoted(host));
    }
    for source in &request.sources {
        command += &format!(" --source {}", quoted(source));
    }
    format!(
        "restore into a separate folder: `{command} --target \"$(mktemp -d)\"`; `{command} --in-place` is for the live files"
    )
}

/// Refuses a target in a folder that a source lives in, or above one: what is restored would be taken for what is
/// live, by people and by the next run.
fn away_from_the_sources(
    from: Reading<'_>,
    request: &Request,
    plan: &[Choice],
    library: &Library,
) -> Result<(), Error> {
    let mut folders: Vec<PathBuf> = vec![from.hapi_home()];
    folders.extend(holders::running_hubs());
    folders.extend(
        from.sources()
            .iter()
            .map(|s| folder_of(s.source.kind, s.source.scope == Scope::Rest, &s.source.path)),
    );
    for choice in plan {
        let record = library.record(choice)?;
        folders.push(folder_of(record.kind, record.rest, &record.path.to_path()));
    }
    let target = real(&request.target);
    if let Some(folder) = ours(from).iter().find(|folder| target.starts_with(folder)) {
        return Err(Error::usage(
            format!(
                "`{}` is in `{}`, which has rustic-hapi's own files",
                target.display(),
                folder.display()
            ),
            elsewhere(request),
        ));
    }
    let home = real(&from.reach.home);
    for folder in folders {
        let Ok(folder) = fs::canonicalize(folder) else {
            continue;
        };
        // All that a user has is in the home, and nearly everything in `/`: there it has to be further down.
        if target == folder {
            return Err(Error::usage(
                format!(
                    "sources are in `{}`: restored files would be mistaken for them",
                    folder.display()
                ),
                elsewhere(request),
            ));
        }
        let is_in = target.starts_with(&folder) && !home.starts_with(&folder);
        if is_in || folder.starts_with(&target) {
            return Err(Error::usage(
                format!(
                    "`{}` is {} `{}`, where sources are: restored files would be mistaken for them",
                    target.display(),
                    if is_in { "in" } else { "above" },
                    folder.display()
                ),
                elsewhere(request),
            ));
        }
    }
    Ok(())
}

/// The repository, and our folders of profiles and state.
fn ours(from: Reading<'_>) -> Vec<PathBuf> {
    let profile = from.profile.and_then(|profile| profile.file.parent());
    let folders = [profile, from.reach.state.parent()].into_iter().flatten();
    // A profile may be anywhere.
    let folders = folders.filter(|folder| folder.ends_with("rustic-hapi"));
    folders
        .chain(from.reach.location.local())
        .map(real)
        .collect()
}

/// The folder that a source lives in.
fn folder_of(kind: Kind, is_rest: bool, path: &Path) -> PathBuf {
    const SPECIAL: [char; 4] = ['*', '?', '[', ']'];
    if kind == Kind::Dir || is_rest {
        return path.to_owned();
    }
    let above = path.parent().unwrap_or(path);
    let is_plain =
        |part: &std::path::Component<'_>| !part.as_os_str().to_string_lossy().contains(SPECIAL);
    above.components().take_while(is_plain).collect()
}

/// A path without links, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find(|above| above.exists());
    let Some((there, real)) = there.and_then(|p| Some((p, fs::canonicalize(p).ok()?))) else {
        return path.to_owned();
    };
    path.strip_prefix(there)
        .map_or(real.clone(), |rest| match rest.as_os_str().is_empty() {
            true => real.clone(),
            false => real.join(rest),
        })
}

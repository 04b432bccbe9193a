//! A restore brings sources back into a folder, each file proven before it has its name.
//!
//! snapshot ─> contents ─> fetch ─> compare with manifest ─> on the disk ─> its name
//!
//! Interrupted at any point it leaves no half-written file under a real name, and run again it
//! finishes: what is there and equal is left as it is. `restore_in_place` is for the hub's own files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hapi_sources::Identities;

use crate::commands::context::Context;
use crate::error::Error;
use crate::machine::target::Target;
use crate::policy::choice::Which;
use crate::profile::reading::Reading;
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
            "`/` is no target: a database put down beside a leftover `-wal` comes back wrong",
            "restore into an empty folder, or use `rustic-hapi restore --in-place`",
        ));
    }
    let repository = Repository::open(from.reach, stop, ui.clone())?;
    let _held = repository.lock_to_read()?;
    let mut library = Library::open(&repository, from.profile, request.host.as_deref())?;
    let chosen = library.choose(from.profile, &request.which, &request.sources, now)?;
    let mut warnings = library.unreadable.clone();
    warnings.extend(warnings_of(&chosen, &library.snapshots));

    let mut plan = Vec::new();
    for choice in chosen.choices {
        let contents = library.contents(&choice.snapshot)?;
        contents.is_trustworthy(&choice.snapshot)?;
        plan.push(choice);
    }
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
            "others can read what is in `{}`: this file system has no modes of files",
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

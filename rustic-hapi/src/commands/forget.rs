//! Retention by hand: the plan is shown, or applied.

use std::time::Duration;

use hapi_sources::Stop;

use crate::commands::context::Context;
use crate::commands::retention::{Applied, Asked, apply, apply_by_itself};
use crate::error::Error;
use crate::policy::unmatched;
use crate::profile::Profile;
use crate::repository::Repository;
use crate::repository::lock::{Mode, exclusive_wait};
use crate::repository::prune::{How, Pruned};
use crate::terminal::prompt::{self, Consent};

/// What is asked of `forget`.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Show the plan, and change nothing.
    pub dry_run: bool,
    /// Nobody watches: the plan is postponed where a run would postpone it.
    pub unattended: bool,
    /// Free the space, too.
    pub prune: bool,
    /// At once, without the 23 h in which a pack is only marked.
    pub instant: bool,
    /// Who agreed to that.
    pub consent: Consent,
    /// How long to wait for another run, and for other programs.
    pub lock_wait: Duration,
}

/// What it means for others that packs are deleted at once.
const AT_ONCE: &str = "data that no snapshot needs is deleted immediately; this waits for restic and rustic-hapi, but a program that ignores restic's locks (rustic) may be storing a snapshot that needs it";

/// Asks whether packs may be deleted at once.
fn agreed(profile: &Profile, consent: Consent, stop: &Stop) -> Result<(), Error> {
    let location = &profile.reach.location;
    match consent {
        Consent::Given => Ok(()),
        Consent::Nobody => Err(Error::usage(
            format!("`--instant` needs a terminal to ask on, or `--yes`: {AT_ONCE}"),
            "if nothing else uses the repository now: `rustic-hapi … --yes`",
        )),
        Consent::Terminal => {
            match prompt::agrees(&format!("In {location}: {AT_ONCE}. Go on?"), stop)? {
                true => Ok(()),
                false => Err(Error::usage(
                    "nothing was changed: the answer was not `y`",
                    "`rustic-hapi forget --prune` marks packs, and a later prune deletes them",
                )),
            }
        }
    }
}

/// What `forget` did.
#[derive(Debug)]
pub struct Report {
    /// The plan, and what became of it.
    pub applied: Applied,
    /// What was freed, where that was asked for.
    pub pruned: Option<Pruned>,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The location, without credentials.
    pub location: String,
    /// What is there instead, where no snapshot is the profile's: then nothing was removed.
    pub unmatched: Option<String>,
}

/// Applies or shows the retention plan.
///
/// # Errors
/// Those of the repository, [`Error::Floor`], [`Error::Postponed`].
pub fn run(profile: &Profile, request: &Request, context: &Context<'_>) -> Result<Report, Error> {
    let (now, stop, ui) = (context.now(), context.stop, context.ui);
    let asked = match request.dry_run {
        true => Asked::DryRun,
        false => Asked::ByHand,
    };
    if profile.append_only && !request.dry_run {
        return Err(Error::usage(
            format!(
                "`{}` deletes nothing that this machine asks it to: `append-only` is true in `{}`",
                profile.reach.location,
                profile.file.display()
            ),
            "apply retention on the server's side (docs/append-only.md); `--dry-run` shows the plan",
        ));
    }
    if request.instant {
        agreed(profile, request.consent, stop)?;
    }
    let _lock = crate::state::run_lock::lock(&profile.reach, request.lock_wait, stop)?;
    let repository = Repository::open(&profile.reach, stop, ui.clone())?;
    let wait = request.lock_wait.max(exclusive_wait());
    // What is deleted is planned, deleted and pruned with nobody else at it.
    let alone = || repository.lock(Mode::Exclusive, wait);
    let (applied, held) = match (request.dry_run, request.unattended) {
        (true, _) => (apply(&repository, profile, &now, asked)?, None),
        (false, true) => (apply_by_itself(&repository, profile, &now)?, None),
        (false, false) => {
            let held = alone()?;
            (apply(&repository, profile, &now, asked)?, Some(held))
        }
    };
    let unmatched = match applied.plan.decisions.is_empty() {
        true => unmatched::nothing_matches(profile, &[], &repository.readable_snapshots()?.0),
        false => None,
    };
    let pruned = match applied.postponed.is_none() && request.prune && !request.dry_run {
        true => {
            let _held = match held {
                Some(held) => held,
                None => alone()?,
            };
            Some(repository.prune(match request.instant {
                true => How::AtOnce,
                false => How::Marking,
            })?)
        }
        false => None,
    };
    Ok(Report {
        applied,
        pruned,
        dry_run: request.dry_run,
        location: profile.reach.location.to_string(),
        unmatched,
    })
}

//! Retention by hand: the plan is shown, or applied.

use chrono::{DateTime, Local};
use hapi_sources::Stop;

use crate::cli;
use crate::commands::prune;
use crate::error::Error;
use crate::profile::Profile;
use crate::report;
use crate::repository::Repository;
use crate::repository::lock::{Mode, exclusive_wait};
use crate::terminal::output::Output;
use crate::terminal::ui::Ui;

/// Applies or shows the retention plan.
///
/// # Errors
/// Those of the repository, [`Error::Floor`], [`Error::Postponed`].
pub fn run(
    profile: &Profile,
    args: &cli::ForgetArgs,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Output, Error> {
    let asked = match args.dry_run {
        true => crate::commands::retention::Asked::DryRun,
        false => crate::commands::retention::Asked::ByHand,
    };
    if profile.append_only && !args.dry_run {
        return Err(Error::Usage {
            fact: format!(
                "`{}` deletes nothing that this machine asks it to: `append-only` is true in `{}`",
                profile.location,
                profile.file.display()
            ),
            hint: Some("apply retention on the server's side (docs/append-only.md); `--dry-run` shows the plan".into()),
        });
    }
    let _lock = crate::state::run_lock::lock(profile, args.lock.wait(), stop)?;
    let repository = Repository::open(profile, stop, ui.clone())?;
    let wait = args.lock.wait().max(exclusive_wait());
    // What is deleted is planned, deleted and pruned with nobody else at it.
    let alone = || repository.lock(Mode::Exclusive, wait);
    let (applied, held) = match (args.dry_run, args.unattended) {
        (true, _) => (
            crate::commands::retention::apply(&repository, profile, &now, asked)?,
            None,
        ),
        (false, true) => (
            crate::commands::retention::apply_by_itself(&repository, profile, &now)?,
            None,
        ),
        (false, false) => {
            let held = alone()?;
            (
                crate::commands::retention::apply(&repository, profile, &now, asked)?,
                Some(held),
            )
        }
    };
    let mut text = report::plan_text(&applied.plan, ui.colour);
    let mut json = report::plan_json(&applied.plan, applied.postponed.is_none() && !args.dry_run);
    if let Some(why) = &applied.postponed {
        text += &format!("nothing was removed: retention is postponed, {why}\n");
        json["postponed"] = why.as_str().into();
        return Ok(Output::done(text, json));
    }
    if args.prune && !args.dry_run {
        let _held = match held {
            Some(held) => held,
            None => alone()?,
        };
        let pruned = repository.prune()?;
        text += &format!("{}\n", prune::line(&pruned));
        json["pruned"] = serde_json::to_value(pruned).unwrap_or_default();
    }
    if args.dry_run {
        text += "nothing was changed (--dry-run)\n";
        return Ok(Output::new(text, json));
    }
    Ok(Output::done(text, json))
}

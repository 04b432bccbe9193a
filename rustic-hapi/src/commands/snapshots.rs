//! The list of a repository's snapshots.

use chrono::{DateTime, Local};
use hapi_sources::Stop;

use crate::error::Error;
use crate::policy::choice;
use crate::profile::Profile;
use crate::report;
use crate::repository::Repository;
use crate::restore::origin;
use crate::terminal::output::Output;
use crate::terminal::ui::Ui;

/// Lists the snapshots of a profile, or those of every host that has some.
///
/// # Errors
/// Those of opening and reading the repository.
pub fn run(
    profile: &Profile,
    host: Option<&str>,
    all_hosts: bool,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Output, Error> {
    let repository = Repository::open(profile, stop, ui.clone())?;
    // One that is torn hides none of the others.
    let (files, unreadable) = match repository.snapshots() {
        Ok(files) => (files, None),
        Err(error @ Error::UnreadableSnapshots { .. }) => {
            (repository.readable_snapshots()?.0, Some(error))
        }
        Err(error) => return Err(error),
    };
    let snapshots = match all_hosts {
        true => choice::of_all_hosts(&files),
        false => origin::readable(&repository, &files, profile, host)?,
    };
    let mut text = report::list_text(&snapshots, now, ui.colour);
    if snapshots.is_empty() && !files.is_empty() && !profile.is_bare() {
        text += &format!(
            "{} of others are here (`--all-hosts`); ours would be of the host `{}`\n",
            files.len(),
            profile.host
        );
    }
    let mut output = Output::new(text, report::list_json(&snapshots));
    if let Some(error) = unreadable {
        output = output.ending(error.exit(), Output::of_error(&error).complaints);
    }
    Ok(output)
}

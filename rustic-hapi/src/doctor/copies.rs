//! The copies, in short: does each open, and would it outlive the disks of the hub and of the main repository.
//! `doctor --from NAME` looks at one in full.

use hapi_sources::Stop;

use crate::doctor::finding::Finding;
use crate::machine::disk::{Relation, relation};
use crate::policy::survival::{lasts, off_the_disk};
use crate::profile::Profile;
use crate::repository::Repository;
use crate::state::copying::LastCopying;
use crate::terminal::call::Call;
use crate::terminal::ui::Ui;

/// A finding for each copy.
pub(super) fn look(profile: &Profile, stop: &Stop) -> Vec<Finding> {
    let copies = profile.copies.iter();
    copies.map(|copy| of(copy, profile, stop)).collect()
}

fn of(copy: &Profile, main: &Profile, stop: &Stop) -> Finding {
    let (name, location) = (copy.place(), &copy.reach.location);
    let subject = format!("copy {name}");
    let in_full = format!("`rustic-hapi doctor --from {name}` looks at it in full");
    if copy.reach.id.is_none() {
        return Finding::fail(
            subject,
            format!(
                "{} has no `id`, so its repository was never made",
                copy.table()
            ),
            format!("`rustic-hapi init --copy {name}` makes it"),
        );
    }
    let opened = off_the_disk(copy)
        .and_then(|()| lasts(copy))
        .and_then(|()| Repository::open_at_once(&copy.reach, stop, Ui::silent()));
    let apart = opened.and_then(|there| {
        let main_id = main.reach.id.as_deref();
        Ok(copy.is_no_other(&there.id(), main, main_id)?)
    });
    match apart {
        Ok(()) => {}
        Err(error) => {
            let hint = error.hint().unwrap_or(in_full);
            // What helps is done to the copy.
            let hint = Call::default().of_copy(name).complete(&hint);
            return Finding::fail(subject, error.to_string(), hint);
        }
    }
    let last = LastCopying::load(&copy.reach.state).ok().flatten();
    if let Some(error) = last.and_then(|last| last.error) {
        return Finding::warn(
            subject,
            format!("the last copying did not bring it up to date: {error}"),
            in_full,
        );
    }
    if let (Some(here), Some(there)) = (location.local(), main.reach.location.local())
        && let Relation::Same(reason) = relation(here, there)
    {
        return Finding::warn(
            subject,
            format!("it is on the disk of the main repository: {reason}"),
            "put it on another disk or machine: if that disk fails, both are lost",
        );
    }
    Finding::ok(subject, format!("`{location}` opens"))
}

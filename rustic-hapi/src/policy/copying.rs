//! Which snapshots a copy lacks, and which of it are superfluous.
//!
//! A copy is known by the id that its snapshot had first (`original`, which `restic copy` sets, too), or by its
//! content. `restic copy` leaves out the description and `--keep`; where the main repository has them, such a copy
//! is made again in full, and then the half one goes.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeZone};
use rustic_core::repofile::SnapshotId;

use crate::error::Error;
use crate::policy::history::Snapshot;
use crate::policy::retention::Plan;
use crate::profile::policy::Policy;

/// The snapshots to copy, the newest first: those that are not there whole, and that the copy's retention would
/// keep beside the others. What it would remove again is not sent.
///
/// # Errors
/// Those of the engine's rules.
pub(crate) fn lacking<'a, Tz: TimeZone>(
    main: impl IntoIterator<Item = &'a Snapshot>,
    copy: &[Snapshot],
    policy: &Policy,
    now: &DateTime<Tz>,
) -> Result<Vec<&'a Snapshot>, Error> {
    let missing: Vec<&Snapshot> = main
        .into_iter()
        .filter(|snapshot| {
            !copy
                .iter()
                .any(|c| is_copy(c, snapshot) && is_whole(c, snapshot))
        })
        .collect();
    if missing.is_empty() {
        return Ok(missing);
    }
    let others = copy
        .iter()
        .filter(|c| !missing.iter().any(|snapshot| is_copy(c, snapshot)));
    let all: Vec<Snapshot> = others.chain(missing.iter().copied()).cloned().collect();
    let plan = Plan::make(&all, policy, now)?;
    let kept: BTreeSet<SnapshotId> = plan
        .decisions
        .iter()
        .filter(|d| d.keep)
        .map(|d| d.snapshot.id)
        .collect();
    let mut wanted: Vec<&Snapshot> = missing
        .into_iter()
        .filter(|snapshot| kept.contains(&snapshot.id))
        .collect();
    wanted.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time));
    Ok(wanted)
}

/// The snapshots of the copy that are of the main repository's, whoever copied them.
pub(crate) fn copies<'a>(main: &[Snapshot], copy: &'a [Snapshot]) -> Vec<&'a Snapshot> {
    let is_one = |c: &&Snapshot| main.iter().any(|snapshot| is_copy(c, snapshot));
    copy.iter().filter(is_one).collect()
}

/// Half copies beside a whole one of the same snapshot, and all but one of those that say the same: to have its lost
/// data again, a snapshot is copied again. Of these goes one of `before`, if there is.
pub(crate) fn superseded(copy: &[Snapshot], before: &BTreeSet<SnapshotId>) -> Vec<SnapshotId> {
    let rank = |snapshot: &Snapshot| (before.contains(&snapshot.id), snapshot.id);
    let goes = |one: &&Snapshot| {
        copy.iter().filter(|other| other.id != one.id).any(|other| {
            let is_half = is_copy(one, other) && !is_whole(one, other);
            is_half || is_twin(one, other) && rank(other) < rank(one)
        })
    };
    copy.iter().filter(goes).map(|one| one.id).collect()
}

/// Whether two are the same but for their ids.
fn is_twin(one: &Snapshot, other: &Snapshot) -> bool {
    let as_one = Snapshot {
        id: one.id,
        added: one.added,
        ..other.clone()
    };
    one.original.is_some() && as_one == *one
}

/// Whether one is a copy of the other, whole or not.
fn is_copy(copy: &Snapshot, of: &Snapshot) -> bool {
    let first = |snapshot: &Snapshot| snapshot.original.unwrap_or(snapshot.id);
    let same = || copy.series == of.series && copy.time == of.time && copy.tree == of.tree;
    first(copy) == first(of) || first(copy) == of.id || same()
}

/// Whether a copy says what its original says of itself. Somebody who gave it other tags meant it.
fn is_whole(copy: &Snapshot, of: &Snapshot) -> bool {
    let says = |snapshot: &Snapshot| {
        (
            snapshot.description.is_some(),
            snapshot.keep_until.is_some(),
        )
    };
    let ((described, kept), (is_described, is_kept)) = (says(copy), says(of));
    copy.tags != of.tags || ((described || !is_described) && (kept || !is_kept))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use chrono::{TimeDelta, Utc};

    use super::*;
    use crate::policy::description::Description;

    fn id(n: u32) -> SnapshotId {
        format!("{n:064x}").parse().unwrap()
    }

    /// The nth of one a day, the newest first.
    fn snapshot(n: u32, now: DateTime<Utc>) -> Snapshot {
        Snapshot {
            id: id(n),
            original: Some(id(n)),
            host: "hub".into(),
            time: (now - TimeDelta::days(n.into())).fixed_offset(),
            series: "hapi".into(),
            tags: vec!["hapi".into()],
            description: None,
            keep_until: None,
            added: None,
            tree: format!("{n}"),
        }
    }

    #[test]
    fn what_is_lacking_is_copied_newest_first_unless_it_would_go_again() {
        let now = Utc::now();
        let main: Vec<_> = (0..40).rev().map(|n| snapshot(n, now)).collect();
        let policy = Policy {
            keep_weekly: 0,
            ..Policy::default()
        };
        let wanted = lacking(&main, &[], &policy, &now).unwrap();
        let ids: Vec<_> = wanted.iter().map(|s| s.id).collect();
        assert_eq!(ids[..3], [id(0), id(1), id(2)]);
        assert!((14..=16).contains(&ids.len()), "{}", ids.len());
        // All copied, each under another id.
        let copy: Vec<_> = wanted
            .iter()
            .map(|s| Snapshot {
                id: id(1000 + u32::try_from(s.tree.parse::<u64>().unwrap()).unwrap()),
                ..(*s).clone()
            })
            .collect();
        assert!(lacking(&main, &copy, &policy, &now).unwrap().is_empty());
        // Tagged anew in the main repository, it is the same.
        let tagged = Snapshot {
            id: id(500),
            ..main[39].clone()
        };
        assert!(lacking(&[tagged], &copy, &policy, &now).unwrap().is_empty());
    }

    #[test]
    fn a_copy_without_description_is_completed_once() {
        let now = Utc::now();
        let whole = Snapshot {
            description: Some(Description {
                hapi: None,
                uncovered: Vec::new(),
                version: 1,
                manifest: String::new(),
                hub: None,
                sources: Default::default(),
            }),
            ..snapshot(1, now)
        };
        let half = Snapshot {
            id: id(7),
            description: None,
            ..whole.clone()
        };
        let policy = Policy::default();
        let main = [whole.clone()];
        let wanted = lacking(&main, std::slice::from_ref(&half), &policy, &now).unwrap();
        assert_eq!(wanted.len(), 1);
        let ours = Snapshot {
            id: id(8),
            ..whole.clone()
        };
        let both = [half.clone(), ours];
        assert!(lacking(&main, &both, &policy, &now).unwrap().is_empty());
        assert_eq!(superseded(&both, &BTreeSet::new()), [id(7)]);
        // Copied again, one of the two goes, and that is the one that was there before.
        let again = Snapshot {
            id: id(9),
            ..both[1].clone()
        };
        let twins = [both[1].clone(), again];
        assert_eq!(superseded(&twins, &BTreeSet::new()), [id(9)]);
        assert_eq!(superseded(&twins, &[id(8)].into()), [id(8)]);
        // Tags that somebody gave the copy stay.
        let tagged = Snapshot {
            tags: vec!["hapi".into(), "mine".into()],
            ..half
        };
        let both = [tagged];
        assert!(lacking(&main, &both, &policy, &now).unwrap().is_empty());
    }
}

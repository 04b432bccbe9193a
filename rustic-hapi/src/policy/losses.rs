//! A loss is that a snapshot has less of a source than the one before it, by more than it may: rows, files, entries,
//! bytes. It is open until that much is there again, or the snapshot is acknowledged. Losses are derived from the
//! snapshots that are tagged `shrunk` and their descriptions, source by source, so that one that nobody acknowledged
//! hides no other.

use std::collections::{BTreeMap, BTreeSet};

use hapi_sources::Kind;
use rustic_core::repofile::SnapshotId;

use crate::policy::description::{CONTENT, Description, Outcome, SourceSummary};
use crate::policy::history::{ONLY, SHRUNK, Snapshot};
use crate::profile::policy::Policy;

/// What the snapshots of a series lost, by source.
#[derive(Debug, Default)]
pub(crate) struct Losses<'a> {
    may_lose: f64,
    sources: BTreeMap<&'a str, Course<'a>>,
    /// Snapshots in which a source has an open loss.
    lacking: BTreeSet<(SnapshotId, &'a str)>,
    /// Snapshots in which a database has one.
    of_databases: BTreeSet<SnapshotId>,
    latest: Option<&'a Description>,
}

/// How a source went on from snapshot to snapshot.
#[derive(Debug)]
struct Course<'a> {
    last: Known<'a>,
    /// The last ones before each open loss, the oldest first: by that one it is measured whether all is there again.
    before_losses: Vec<Known<'a>>,
}

/// A source as a snapshot has it, whole.
#[derive(Clone, Copy, Debug)]
struct Known<'a> {
    snapshot: &'a Snapshot,
    source: &'a SourceSummary,
}

impl<'a> Losses<'a> {
    /// Of the snapshots of one series, the oldest first.
    pub(crate) fn of(series: impl IntoIterator<Item = &'a Snapshot>, policy: &Policy) -> Self {
        let mut losses = Self {
            may_lose: policy.shrink,
            ..Self::default()
        };
        for snapshot in series {
            let Some(description) = snapshot
                .description
                .as_ref()
                .filter(|_| !snapshot.has(ONLY))
            else {
                continue;
            };
            losses.latest = Some(description);
            for (name, source) in &description.sources {
                if source.outcome.is_sound() {
                    losses.goes_on(name, Known { snapshot, source });
                }
            }
            // Who accepts a snapshot accepts what came before it.
            if snapshot.is_acknowledged(policy) {
                let courses = losses.sources.values_mut();
                courses.for_each(|course| course.before_losses.clear());
                losses.lacking.clear();
                losses.of_databases.clear();
            }
        }
        losses
    }

    fn goes_on(&mut self, name: &'a str, now: Known<'a>) {
        let course = self.sources.entry(name).or_insert_with(|| Course {
            last: now,
            before_losses: Vec::new(),
        });
        // Without the tag it was in order, each step of it: retention may have taken some of these away since, and what
        // was acknowledged.
        if !now.snapshot.has(SHRUNK) {
            course.before_losses.clear();
        } else if course.lost_since(name, now.source, self.may_lose).is_some() {
            course.before_losses.push(course.last);
        } else if course.lacks(name, now.source, self.may_lose).is_none() {
            course.before_losses.clear();
        }
        if !course.before_losses.is_empty() {
            self.lacking.insert((now.snapshot.id, name));
            if now.source.kind == Kind::Sqlite {
                self.of_databases.insert(now.snapshot.id);
            }
        }
        course.last = now;
    }

    /// What a new snapshot lost since the one before it, or lacks since an earlier one; the former is news.
    pub(crate) fn judge(&self, now: &Description) -> Judgement {
        let mut judgement = Judgement::default();
        for (name, source) in &now.sources {
            // A source that failed is told as such; one that left the profile is not missed.
            let Some(course) = self.sources.get(name.as_str()) else {
                continue;
            };
            if source.outcome.is_sound() {
                judgement
                    .lost
                    .extend(course.lost_since(name, source, self.may_lose));
                judgement
                    .lacks
                    .extend(course.lacks(name, source, self.may_lose));
            }
        }
        judgement
    }

    /// What a new snapshot is compared with: each source as it was before its open losses. Something else may always
    /// be missing.
    pub(crate) fn before(&self) -> Option<Description> {
        let sources = self
            .sources
            .iter()
            .map(|(name, course)| ((*name).to_owned(), course.intact().source.clone()));
        Some(Description {
            sources: sources.collect(),
            ..self.latest?.clone()
        })
    }

    /// The last snapshots before each open loss.
    pub(crate) fn before_losses(&self) -> impl Iterator<Item = &'a Snapshot> {
        let courses = self.sources.values();
        courses.flat_map(|course| course.before_losses.iter().map(|known| known.snapshot))
    }

    /// Whether a source of a snapshot that is tagged `shrunk` may have lost something: it has an open loss, or a database
    /// has (settings that a hub made anew are not those of the database before), or nothing here explains the tag.
    pub(crate) fn concern(&self, snapshot: &Snapshot, source: &str) -> bool {
        self.lacking.contains(&(snapshot.id, source))
            || self.of_databases.contains(&snapshot.id)
            || !self.lacking.iter().any(|(id, _)| *id == snapshot.id)
    }
}

/// What is less in a new snapshot, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Than in the one before it.
    pub(crate) lost: Vec<String>,
    /// Than before the first loss that is open.
    pub(crate) lacks: Vec<String>,
}

impl<'a> Course<'a> {
    fn intact(&self) -> Known<'a> {
        self.before_losses.first().copied().unwrap_or(self.last)
    }

    fn lost_since(&self, name: &str, now: &SourceSummary, may_lose: f64) -> Option<String> {
        less(name, self.last.source, now, may_lose)
    }

    fn lacks(&self, name: &str, now: &SourceSummary, may_lose: f64) -> Option<String> {
        less(name, self.intact().source, now, may_lose)
    }
}

/// What a source lost more of than it may, or that it is not there any more. A handful is no evidence (one phone that
/// unregisters), but a hub without any session or message is.
fn less(name: &str, old: &SourceSummary, now: &SourceSummary, may_lose: f64) -> Option<String> {
    const TOO_FEW_TO_TELL: u64 = 10;
    const TOO_SMALL_TO_TELL: u64 = 256 << 10;
    #[allow(clippy::cast_precision_loss, reason = "a part of it is what counts")]
    let shrank = |was: u64, is: u64| (is as f64) < (was as f64) * (1.0 - may_lose);
    // What nobody knows may come and go, and would pin a snapshot for ever.
    if now.rest {
        return None;
    }
    // A pattern that matches nothing any more is in order: plans are committed to git.
    if now.outcome == Outcome::Absent && old.files > 0 && now.kind != Kind::Glob {
        return Some(format!("{name} no longer exists"));
    }
    // A file may have any length but none.
    if now.kind == Kind::File && old.bytes > 0 && now.bytes == 0 {
        return Some(format!("{name} went from {} to 0 bytes", old.bytes));
    }
    if let (Some(was), Some(is)) = (old.entries, now.entries)
        && (was >= TOO_FEW_TO_TELL && shrank(was, is) || was > 0 && is == 0)
    {
        return Some(format!("{name} went from {was} to {is} entries"));
    }
    for (table, was) in &old.rows {
        let (was, is) = (was.unwrap_or(0), now.rows.get(table).copied().flatten());
        let is = is.unwrap_or(0);
        // A hub with nothing in it any more is no matter of numbers, however few there were.
        let emptied = CONTENT.contains(&table.as_str()) && was > 0 && is == 0;
        if was >= TOO_FEW_TO_TELL && shrank(was, is) || emptied {
            return Some(format!(
                "table {table} of {name} went from {was} to {is} rows"
            ));
        }
    }
    if now.kind == Kind::Dir && old.files >= TOO_FEW_TO_TELL && shrank(old.files, now.files) {
        return Some(format!(
            "{name} went from {} to {} files",
            old.files, now.files
        ));
    }
    // A VACUUM makes a database smaller, too: its rows would still be there.
    if now.kind == Kind::Sqlite
        && now.rows.values().all(Option::is_none)
        && old.bytes >= TOO_SMALL_TO_TELL
        && shrank(old.bytes, now.bytes)
    {
        return Some(format!(
            "{name} went from {} to {} bytes",
            old.bytes, now.bytes
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use serde_json::json;

    use super::*;
    use crate::policy::history::Snapshot;

    /// Snapshots with these numbers of messages, and whether `settings.json` is there, tagged as they would be.
    fn history(states: &[(u64, bool)]) -> Vec<Snapshot> {
        let begin = DateTime::parse_from_rfc3339("2026-01-01T06:00:00Z").unwrap();
        let mut history = Vec::new();
        for (nth, state) in states.iter().enumerate() {
            let judgement = Losses::of(&history, &Policy::default()).judge(&description(*state));
            let mut tags = vec!["hapi".to_owned()];
            if judgement != Judgement::default() {
                tags.push(SHRUNK.into());
            }
            history.push(Snapshot {
                host: "vm".into(),
                id: history_id(nth + 1),
                original: None,
                time: begin + TimeDelta::hours(12 * nth as i64),
                series: "hapi".into(),
                tags,
                description: Some(description(*state)),
                keep_until: None,
                added: None,
                tree: String::new(),
            });
        }
        history
    }

    fn description((messages, settings): (u64, bool)) -> Description {
        let outcome = if settings { "complete" } else { "absent" };
        let files = u8::from(settings);
        serde_json::from_value(json!({
            "version": 1, "manifest": "", "sources": {
                "hapi.db": { "kind": "sqlite", "outcome": "complete", "bytes": 4096, "files": 1, "rows": { "messages": messages } },
                "settings.json": { "kind": "file", "outcome": outcome, "bytes": files, "files": files },
            }
        }))
        .unwrap()
    }

    fn history_id(nth: usize) -> SnapshotId {
        format!("{nth:064x}").parse().unwrap()
    }

    fn pinned(history: &[Snapshot], policy: &Policy) -> Vec<usize> {
        let pinned = Losses::of(history, policy);
        let place = |s: &Snapshot| history.iter().position(|h| h.id == s.id).unwrap();
        let mut places: Vec<usize> = pinned.before_losses().map(place).collect();
        places.sort_unstable();
        places
    }

    #[test]
    fn an_open_loss_hides_no_other() {
        let policy = Policy::default();
        // The settings go; the hub works on for days, and then loses everything, in two steps.
        let states = [
            (100, true),
            (110, false),
            (500, false),
            (250, false),
            (300, false),
            (0, false),
        ];
        let history = history(&states);
        assert_eq!(pinned(&history, &policy), [0, 2, 4]);
        for (at, lost, lacks) in [
            (1, vec!["settings.json no longer exists"], 1),
            (2, vec![], 1),
            (
                3,
                vec!["table messages of hapi.db went from 500 to 250 rows"],
                2,
            ),
            (4, vec![], 2),
            (
                5,
                vec!["table messages of hapi.db went from 300 to 0 rows"],
                2,
            ),
        ] {
            let judgement = Losses::of(&history[..at], &policy).judge(&description(states[at]));
            assert_eq!(judgement.lost, lost, "{at}");
            assert_eq!(judgement.lacks.len(), lacks, "{at}: {judgement:?}");
        }
        // What retention leaves of these says the same.
        let left: Vec<Snapshot> = [0, 2, 4, 5].map(|at| history[at].clone()).into();
        assert_eq!(pinned(&left, &policy), [0, 1, 2]);
        let losses = Losses::of(&history, &policy);
        assert!(!losses.concern(&history[2], "hapi.db"));
        // Where the one before is gone, or another share was allowed, the tag is all that is known.
        assert!(Losses::of(&history[2..3], &policy).concern(&history[2], "hapi.db"));
        assert!(
            losses.concern(&history[2], "settings.json")
                && losses.concern(&history[3], "settings.json")
        );
    }

    #[test]
    fn what_is_there_again_or_acknowledged_is_no_loss() {
        let mut policy = Policy::default();
        let history = history(&[(90, true), (0, false), (5, true), (80, true)]);
        assert_eq!(pinned(&history[..3], &policy), [0]);
        assert!(pinned(&history, &policy).is_empty());
        let history = self::history(&[(90, true), (0, false), (5, false)]);
        policy.acknowledged = vec![history[1].id.to_hex().as_str()[..].to_owned()];
        assert!(pinned(&history, &policy).is_empty());
        let losses = Losses::of(&history, &policy);
        let judgement = losses.judge(&description((0, false)));
        assert_eq!(
            judgement.lost,
            ["table messages of hapi.db went from 5 to 0 rows"]
        );
    }

    #[test]
    fn what_retention_takes_away_makes_no_loss() {
        let policy = Policy::default();
        // Old sessions go, some each day; then there are no more days between.
        let numbers = (0..14).map(|day| (1000 - 50 * day, true));
        let mut history = history(&numbers.collect::<Vec<_>>());
        assert!(history.iter().all(|s| !s.has(SHRUNK)));
        history.retain(|s| s.id == history_id(1) || s.id == history_id(14));
        assert!(pinned(&history, &policy).is_empty());
        // One was acknowledged, and so the next was in order; then that one goes.
        let mut history = self::history(&[(100, true), (50, true), (50, true)]);
        history[2].tags.pop();
        history.remove(1);
        assert!(pinned(&history, &policy).is_empty());
        let judgement = Losses::of(&history, &policy).judge(&description((50, true)));
        assert_eq!(judgement, Judgement::default());
    }

    #[test]
    fn what_comes_and_goes_pins_one_snapshot() {
        let states: Vec<(u64, bool)> = (0..40).map(|n| (50, n % 2 == 0)).collect();
        assert_eq!(pinned(&history(&states), &Policy::default()), [38]);
    }
}

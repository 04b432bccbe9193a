//! A choice is the snapshot that a source is restored from: the newest one that holds it whole and is not
//! tagged `shrunk`, unless one is named. A weekly series lies in snapshots of its own, a source that failed this
//! morning is whole in last night's, and a database that was emptied is in the one before; "the newest
//! snapshot" would be wrong for all three.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Local, TimeDelta};

use crate::error::Error;
use crate::policy::description::{Description, Outcome, SourceSummary};
use crate::policy::history::{ONLY, SHRUNK, Snapshot};
use crate::policy::losses::Losses;
use crate::profile::Profile;
use crate::profile::policy::Policy;

/// Which snapshots are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// For each source the newest that holds it whole.
    #[default]
    Newest,
    /// This one: `latest`, or the beginning of its id.
    Named(String),
    /// A random one that is not the newest of its series.
    Older,
}

/// Where one source comes from.
#[derive(Clone, Debug)]
pub struct Choice {
    pub source: String,
    pub snapshot: Snapshot,
    /// How the source is in it.
    pub outcome: Outcome,
    /// Whether the snapshot is tagged `shrunk` for its sake, and that is not acknowledged.
    pub shrunk: bool,
    /// Newer snapshots that do not hold it whole, or lost something, the newest first.
    pub passed_over: Vec<PassedOver>,
}

/// A newer snapshot that a source does not come from.
#[derive(Clone, Debug)]
pub struct PassedOver {
    pub snapshot: Snapshot,
    /// How the source is in it.
    pub outcome: Outcome,
    /// Whether the snapshot is tagged `shrunk` for its sake, and that is not acknowledged.
    pub shrunk: bool,
}

impl PassedOver {
    /// Whether it may be the state that the source has now: then who restores has to say which is meant.
    pub fn is_suspect(&self) -> bool {
        self.shrunk || self.outcome == Outcome::Damaged
    }

    /// For a sentence.
    pub fn in_words(&self) -> &'static str {
        match self.outcome.is_sound() {
            true => "tagged shrunk",
            false => self.outcome.in_words(),
        }
    }
}

/// What was chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    /// In the order of the profile, or of their names.
    pub choices: Vec<Choice>,
    /// Sources of the profile that no snapshot holds, and whether they are required.
    pub nowhere: Vec<(String, bool)>,
    /// Snapshots that lost their description and cannot say what they hold, and why.
    pub unreadable: Vec<String>,
}

/// Chooses a snapshot for each source. `describe` finds the description of a snapshot that lost its
/// own (`restic tag` drops it).
///
/// # Errors
/// There is no snapshot at all, none of that name, no older one, or the only one that is meant does
/// not say what it holds: a restore of nothing is no success.
pub(crate) fn choose(
    snapshots: &[Snapshot],
    profile: Option<&Profile>,
    which: &Which,
    now: DateTime<Local>,
    describe: &mut dyn FnMut(&Snapshot) -> Result<Description, String>,
) -> Result<Chosen, Error> {
    if snapshots.is_empty() {
        return Err(nothing(
            "there is no snapshot to restore from",
            "`rustic-hapi snapshots` lists what is there",
        ));
    }
    let mut described = |snapshot: &Snapshot| match &snapshot.description {
        Some(description) => Ok(description.sources.clone()),
        None => describe(snapshot).map(|description| description.sources),
    };
    let one = match which {
        Which::Newest => {
            let chosen = newest(snapshots, profile, now, &mut described);
            return match chosen.choices.is_empty() && chosen.nowhere.is_empty() {
                true => Err(Error::NoSnapshot {
                    fact: format!(
                        "no snapshot says what it holds{}",
                        chosen
                            .unreadable
                            .first()
                            .map_or_else(String::new, |one| format!(": {one}"))
                    ),
                    hint: "`rustic-hapi check --read-data` reports what is affected".into(),
                }),
                false => Ok(chosen),
            };
        }
        Which::Named(name) => named(snapshots, profile, name, now)?,
        Which::Older => older(snapshots, profile)?,
    };
    let unlike = |reason: String| Error::Unlike {
        snapshot: one.to_string(),
        differences: vec![reason],
    };
    let sources = described(one).map_err(unlike)?;
    if sources.is_empty() {
        return Err(unlike("it names no source".to_owned()));
    }
    let lost = Lost::of(snapshots, profile);
    let choices = in_order(profile, sources.keys().cloned().collect())
        .into_iter()
        .map(|source| Choice {
            outcome: sources[&source].outcome,
            shrunk: lost.concerns(one, &source),
            snapshot: one.clone(),
            passed_over: Vec::new(),
            source,
        })
        .collect();
    Ok(Chosen {
        choices,
        ..Chosen::default()
    })
}

/// What a snapshot says of its sources.
type Sources = BTreeMap<String, SourceSummary>;

/// A source that is looked for: its name, what was found, what was passed over.
type Looking = (String, Option<Choice>, Vec<PassedOver>);

/// Whether a snapshot lost something, as far as anybody knows.
pub(crate) fn is_shrunk(snapshot: &Snapshot, profile: Option<&Profile>) -> bool {
    let known = |profile: &Profile| snapshot.is_acknowledged(&profile.retention);
    snapshot.has(SHRUNK) && !profile.is_some_and(known)
}

/// What the snapshots of each series lost.
pub(crate) struct Lost<'a> {
    profile: Option<&'a Profile>,
    by_series: BTreeMap<&'a str, Losses<'a>>,
}

impl<'a> Lost<'a> {
    pub(crate) fn of(snapshots: &'a [Snapshot], profile: Option<&'a Profile>) -> Self {
        let policy = profile.map_or_else(Policy::default, |profile| profile.retention.clone());
        let names: BTreeSet<&str> = snapshots.iter().map(|s| s.series.as_str()).collect();
        let losses = |name| Losses::of(snapshots.iter().filter(|s| s.series == name), &policy);
        Self {
            profile,
            by_series: names.into_iter().map(|name| (name, losses(name))).collect(),
        }
    }

    /// Whether a snapshot lost something that concerns this source. The loss of another does not, unless that is a
    /// database.
    pub(crate) fn concerns(&self, snapshot: &Snapshot, source: &str) -> bool {
        let losses = self.by_series.get(snapshot.series.as_str());
        let of_it = |losses: &Losses<'_>| losses.concern(snapshot, source);
        is_shrunk(snapshot, self.profile)
            && (snapshot.description.is_none() || losses.is_none_or(of_it))
    }
}

fn newest(
    snapshots: &[Snapshot],
    profile: Option<&Profile>,
    now: DateTime<Local>,
    described: &mut dyn FnMut(&Snapshot) -> Result<Sources, String>,
) -> Chosen {
    let mut chosen = Chosen::default();
    let mut described = |snapshot: &Snapshot| {
        described(snapshot).unwrap_or_else(|reason| {
            let told = format!("the snapshot {snapshot} is passed over: {reason}");
            if !chosen.unreadable.contains(&told) {
                chosen.unreadable.push(told);
            }
            Sources::new()
        })
    };
    let (late, mut candidates): (Vec<&Snapshot>, Vec<&Snapshot>) =
        snapshots.iter().rev().partition(|s| is_ahead(s, now));
    candidates.extend(late);

    let wanted: Vec<String> = if let Some(profile) = profile {
        // What this profile skips, the hub's may not.
        let held = |name: &str| {
            let mut described = candidates.iter().filter_map(|s| s.description.as_ref());
            described.any(|description| description.sources.contains_key(name))
        };
        let skipped = profile.skipped_secrets.iter();
        let skipped = skipped.map(|s| &s.name).filter(|name| held(name));
        let sources = profile.sources.iter().map(|s| &s.source.name);
        sources.chain(skipped).cloned().collect()
    } else {
        // What the newest snapshot of each series holds, or names as failed.
        let mut series = BTreeSet::new();
        let newest = candidates
            .iter()
            .filter(|s| !s.has(ONLY) && series.insert(s.series.clone()));
        let names: BTreeSet<String> = newest.flat_map(|s| described(s).into_keys()).collect();
        names.into_iter().collect()
    };

    let mut looking: Vec<Looking> = wanted
        .into_iter()
        .map(|source| (source, None, Vec::new()))
        .collect();
    let lost = Lost::of(snapshots, profile);
    for snapshot in candidates {
        if looking.iter().all(|(_, choice, _)| choice.is_some()) {
            break;
        }
        let sources = described(snapshot);
        for (name, choice, passed_over) in &mut looking {
            let Some(summary) = sources.get(name).filter(|_| choice.is_none()) else {
                continue;
            };
            let shrunk = lost.concerns(snapshot, name);
            if summary.outcome.is_sound() && !shrunk {
                *choice = Some(Choice {
                    source: name.clone(),
                    snapshot: snapshot.clone(),
                    outcome: summary.outcome,
                    shrunk,
                    passed_over: std::mem::take(passed_over),
                });
            } else {
                passed_over.push(PassedOver {
                    snapshot: snapshot.clone(),
                    outcome: summary.outcome,
                    shrunk,
                });
            }
        }
    }
    for (source, choice, passed_over) in looking {
        // Nowhere sound: the newest that holds it whole, or else anything of it, is better than nothing.
        let anything = || {
            let whole = passed_over.iter().find(|one| one.outcome.is_sound());
            let some = |one: &&PassedOver| one.outcome != Outcome::Failed;
            let one = whole.or_else(|| passed_over.iter().find(some))?;
            Some(Choice {
                source: source.clone(),
                snapshot: one.snapshot.clone(),
                outcome: one.outcome,
                shrunk: one.shrunk,
                passed_over: Vec::new(),
            })
        };
        match choice.or_else(anything) {
            Some(choice) => chosen.choices.push(choice),
            None => {
                // Without a profile, what a snapshot names is wanted.
                let required = profile.is_none_or(|profile| {
                    let mut sources = profile.sources.iter();
                    sources.any(|s| s.source.name == source && s.source.required)
                });
                chosen.nowhere.push((source, required));
            }
        }
    }
    chosen
}

/// Finds a snapshot by its name.
///
/// # Errors
/// There is none, or more than one.
pub(crate) fn named<'a>(
    snapshots: &'a [Snapshot],
    profile: Option<&Profile>,
    name: &str,
    now: DateTime<Local>,
) -> Result<&'a Snapshot, Error> {
    if name == "latest" {
        let main = profile
            .and_then(|profile| profile.series.first())
            .map(|s| &s.name);
        let of_main = |s: &&Snapshot| main.is_none_or(|main| s.series == *main) && !s.has(ONLY);
        let latest = snapshots
            .iter()
            .rfind(|s| of_main(s) && !is_ahead(s, now))
            .or_else(|| snapshots.iter().rfind(of_main));
        return latest.ok_or_else(|| {
            nothing(
                "there is no snapshot of the main series",
                "`rustic-hapi snapshots` lists what is there",
            )
        });
    }
    let digits = name.len() >= 4 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let found: Vec<_> = snapshots
        .iter()
        .filter(|s| digits && s.begins_with(&name.to_ascii_lowercase()))
        .collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(nothing(
            &format!("there is no snapshot `{name}` of this profile"),
            "`rustic-hapi snapshots` lists them; `latest`, or 4 or more digits of an id, name one",
        )),
        many => Err(nothing(
            &format!("`{name}` is the beginning of {} ids", many.len()),
            "give more digits of it",
        )),
    }
}

/// One that a wrong clock dated ahead would be the newest for ever.
pub(crate) fn is_ahead(snapshot: &Snapshot, now: DateTime<Local>) -> bool {
    snapshot.time > now + TimeDelta::hours(24)
}

fn older<'a>(snapshots: &'a [Snapshot], profile: Option<&Profile>) -> Result<&'a Snapshot, Error> {
    let mut candidates: Vec<&Snapshot> = snapshots
        .iter()
        .filter(|s| !s.has(ONLY))
        .filter(|s| {
            snapshots
                .iter()
                .any(|n| n.series == s.series && n.time > s.time && !n.has(ONLY))
        })
        .collect();
    // What is known not to be whole, or to have lost something, would prove nothing.
    let is_sound = |s: &&Snapshot| s.is_complete() && !is_shrunk(s, profile);
    if candidates.iter().any(is_sound) {
        candidates.retain(is_sound);
    }
    let mut random = [0u8; 8];
    // Without randomness the oldest one is as good.
    _ = getrandom::fill(&mut random);
    let nth = u64::from_ne_bytes(random) % candidates.len().max(1) as u64;
    candidates
        .get(usize::try_from(nth).unwrap_or(0))
        .copied()
        .ok_or_else(|| {
            nothing(
                "there is no older snapshot yet",
                "leave out `--older` to take the newest",
            )
        })
}

fn in_order(profile: Option<&Profile>, names: Vec<String>) -> Vec<String> {
    let place = |name: &String| {
        let mut sources = profile.iter().flat_map(|profile| &profile.sources);
        sources
            .position(|s| s.source.name == *name)
            .unwrap_or(usize::MAX)
    };
    let mut names = names;
    names.sort_by_key(|name| (place(name), name.clone()));
    names
}

fn nothing(fact: &str, hint: &str) -> Error {
    Error::NoSnapshot {
        fact: fact.to_owned(),
        hint: hint.to_owned(),
    }
}

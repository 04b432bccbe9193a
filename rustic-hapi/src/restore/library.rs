//! A library is what a restore takes from: the snapshots of a repository, the contents of those that were
//! opened, and which of them each source comes from.

use std::collections::BTreeMap;

use chrono::{DateTime, Local};
use hapi_sources::Stop;
use rustic_core::repofile::SnapshotId;

use crate::error::{Error, Reason};
use crate::policy::choice::{self, Choice, Chosen, Which};
use crate::policy::description::SourceSummary;
use crate::policy::history::Snapshot;
use crate::policy::manifest::SourceRecord;
use crate::profile::Profile;
use crate::repository::{Engine, Repository};
use crate::restore::contents::Contents;
use crate::restore::fetch::Fetch;
use crate::restore::origin;
use crate::terminal::ui::Ui;

/// The snapshots of a repository, and the contents of those that were opened.
pub(crate) struct Library {
    pub(crate) engine: Engine,
    pub(crate) snapshots: Vec<Snapshot>,
    /// What is wrong with snapshot files that cannot be read.
    pub(crate) unreadable: Vec<String>,
    /// Why this user may not read one of them.
    pub(crate) denied: Option<Reason>,
    opened: BTreeMap<SnapshotId, Contents>,
}

impl Library {
    pub(crate) fn open(
        repository: &Repository,
        profile: Option<&Profile>,
        host: Option<&str>,
    ) -> Result<Self, Error> {
        let (files, unreadable) = repository.readable_snapshots()?;
        let snapshots = origin::readable(repository, &files, profile, host)?;
        Ok(Self {
            engine: repository.for_reading()?,
            snapshots,
            unreadable: unreadable.iter().map(ToString::to_string).collect(),
            denied: unreadable
                .into_iter()
                .map(|file| file.reason)
                .find(Reason::is_denied),
            opened: BTreeMap::new(),
        })
    }

    /// Chooses, and keeps the wanted sources only.
    pub(crate) fn choose(
        &mut self,
        profile: Option<&Profile>,
        which: &Which,
        sources: &[String],
        now: DateTime<Local>,
    ) -> Result<Chosen, Error> {
        let (engine, opened) = (&self.engine, &mut self.opened);
        let mut denied = None;
        let mut describe = |snapshot: &Snapshot| {
            let contents = Contents::load(engine, snapshot).map_err(|reason| {
                let text = reason.to_string();
                denied = denied.take().or(Some(reason).filter(Reason::is_denied));
                text
            })?;
            let description = contents.description.clone();
            opened.insert(snapshot.id, contents);
            Ok(description)
        };
        let chosen = choice::choose(&self.snapshots, profile, which, now, &mut describe);
        if let Some(reason) = denied {
            return Err(may_not_read(reason));
        }
        let mut chosen = chosen?;
        self.unreadable.append(&mut chosen.unreadable);
        for name in sources {
            let known = chosen.choices.iter().any(|c| c.source == *name)
                || chosen.nowhere.iter().any(|(nowhere, _)| nowhere == name);
            if !known {
                let names: Vec<_> = chosen.choices.iter().map(|c| c.source.as_str()).collect();
                return Err(Error::usage(
                    format!("there is no source `{name}` to restore"),
                    format!("there are {}", names.join(", ")),
                ));
            }
        }
        if !sources.is_empty() {
            chosen.choices.retain(|c| sources.contains(&c.source));
            chosen.nowhere.retain(|(name, _)| sources.contains(name));
            for (_, required) in &mut chosen.nowhere {
                *required = true;
            }
        }
        Ok(chosen)
    }

    /// The contents of a snapshot, loaded once.
    pub(crate) fn contents(&mut self, snapshot: &Snapshot) -> Result<&Contents, Error> {
        let id = snapshot.id;
        if !self.opened.contains_key(&id) {
            let contents = Contents::load(&self.engine, snapshot).map_err(|reason| {
                if reason.is_denied() {
                    return may_not_read(reason);
                }
                Error::Unlike {
                    snapshot: snapshot.to_string(),
                    differences: vec![reason.to_string()],
                }
            })?;
            self.opened.insert(id, contents);
        }
        self.opened(&id)
    }

    pub(crate) fn opened(&self, id: &SnapshotId) -> Result<&Contents, Error> {
        self.opened.get(id).ok_or_else(|| Error::NoSnapshot {
            fact: "a snapshot was used before it was opened".into(),
            hint: "this is a defect".into(),
        })
    }

    /// What the manifest says of a chosen source.
    pub(crate) fn record(&self, choice: &Choice) -> Result<&SourceRecord, Error> {
        let contents = self.opened(&choice.snapshot.id)?;
        contents
            .manifest
            .sources
            .iter()
            .find(|s| s.name == choice.source)
            .ok_or_else(|| Error::Unlike {
                snapshot: choice.snapshot.to_string(),
                differences: vec![format!("its manifest has no source `{}`", choice.source)],
            })
    }

    /// What a snapshot says of a source, as far as it can be read.
    pub(crate) fn summary(&mut self, snapshot: &Snapshot, source: &str) -> Option<SourceSummary> {
        let description = match &snapshot.description {
            Some(description) => description,
            None => &self.contents(snapshot).ok()?.description,
        };
        description.sources.get(source).cloned()
    }

    /// Bytes that a chosen source takes, as far as its snapshot can be read.
    pub(crate) fn bytes(&mut self, choice: &Choice) -> u64 {
        let Ok(contents) = self.contents(&choice.snapshot) else {
            return 0;
        };
        let sources = contents.manifest.sources.iter();
        sources
            .filter(|source| source.name == choice.source)
            .flat_map(|source| &source.entries)
            .filter(|entry| contents.node(&entry.path.to_path()).is_some())
            .filter_map(|entry| entry.size)
            .fold(0, u64::saturating_add)
    }

    /// What brings files out of an opened snapshot.
    pub(crate) fn fetch<'a>(
        &'a self,
        snapshot: &Snapshot,
        ui: &'a Ui,
        stop: &'a Stop,
    ) -> Result<Fetch<'a>, Error> {
        Ok(Fetch {
            engine: &self.engine,
            contents: self.opened(&snapshot.id)?,
            ui,
            stop,
        })
    }
}

/// The error that this user may not read the repository, with what helps.
pub(crate) fn may_not_read(reason: Reason) -> Error {
    Error::Engine {
        doing: "reading the repository",
        reason,
    }
}

/// What should be said about where sources come from.
pub(crate) fn warnings_of(chosen: &Chosen, snapshots: &[Snapshot]) -> Vec<String> {
    let mut warnings = Vec::new();
    for choice in &chosen.choices {
        if !choice.outcome.is_sound() {
            warnings.push(format!(
                "`{}` is {} in the snapshot {}",
                choice.source,
                choice.outcome.in_words(),
                choice.snapshot
            ));
        } else if let Some(newer) = choice.passed_over.first()
            && !newer.outcome.is_sound()
        {
            warnings.push(format!(
                "`{}` comes from {}: in the newest, {}, it is {}",
                choice.source,
                choice.snapshot,
                newer.snapshot.short_id(),
                newer.in_words()
            ));
        }
    }
    // One that lost something is passed over for all its sources together.
    let mut shrunk: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for choice in &chosen.choices {
        if let Some(newer) = choice.passed_over.iter().find(|newer| newer.shrunk) {
            let pair = (newer.snapshot.to_string(), choice.snapshot.to_string());
            shrunk.entry(pair).or_default().push(&choice.source);
        }
    }
    for ((newer, sound), sources) in shrunk {
        let what = match sources.as_slice() {
            [one] => format!("`{one}` comes"),
            several => format!("{} sources come", several.len()),
        };
        warnings.push(format!(
            "the snapshot {newer} has far less than the one before it (it is tagged shrunk), so {what} from the last good one, {sound}"
        ));
    }
    // A migration emptied the database: then the newest is not what anybody wants back.
    let mut told = Vec::new();
    for choice in chosen.choices.iter().filter(|c| c.shrunk) {
        if told.contains(&choice.snapshot.id) {
            continue;
        }
        told.push(choice.snapshot.id);
        let before = snapshots.iter().rev().find(|s| {
            s.series == choice.snapshot.series
                && s.time < choice.snapshot.time
                && s.is_unsuspected()
        });
        warnings.push(format!(
            "the snapshot {} has far less than the one before it{}",
            choice.snapshot,
            before.map_or_else(String::new, |s| format!("; the last good one is {s}"))
        ));
    }
    warnings
}

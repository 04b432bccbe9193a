//! The places of a profile besides its main repository, as `status` tells of them: how old is what each holds, and
//! what it lacks.

use chrono::{DateTime, FixedOffset, Local, TimeDelta};
use hapi_sources::Stop;

use crate::error::Error;
use crate::policy::copying::lacking;
use crate::policy::freshness::{self, Freshness};
use crate::policy::history::Snapshot;
use crate::policy::slots;
use crate::profile::Profile;
use crate::repository::Repository;
use crate::restore::origin;
use crate::state::copying::LastCopying;
use crate::terminal::ui::Ui;

/// What is known of a copy.
#[derive(Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Where it is, without credentials.
    pub location: String,
    /// The id that the profile names.
    pub repository: Option<String>,
    /// The newest complete snapshot of the main series.
    pub newest: Option<DateTime<FixedOffset>>,
    /// How old that may be.
    pub max_age: TimeDelta,
    /// Whether it is too old.
    pub verdict: Freshness,
    /// Its snapshots, where it was looked into.
    pub snapshots: Option<usize>,
    /// What it lacks of the main repository's.
    pub lacking: Option<usize>,
    /// Why it could not be looked into now: then all is as the last copying left it.
    pub unreached: Option<Error>,
    /// What this machine knows of its last copying.
    pub last: Option<LastCopying>,
}

impl Place {
    /// What is on record of a copy, without a look at it.
    pub(crate) fn on_record(
        copy: &Profile,
        asked: Option<TimeDelta>,
        now: DateTime<Local>,
    ) -> Self {
        let last = LastCopying::load(&copy.reach.state).ok().flatten();
        let series = copy.series.first();
        // What is asked for is the main repository's limit.
        let asked = asked.map(|asked| asked * 2);
        let max_age = series.map(|series| freshness::limit(copy, series, asked, &now));
        let mut place = Self {
            name: copy.place().to_owned(),
            location: copy.reach.location.to_string(),
            repository: copy.reach.id.clone(),
            newest: last.as_ref().and_then(|last| last.newest),
            max_age: max_age.unwrap_or_default(),
            verdict: Freshness::Stale,
            snapshots: None,
            lacking: last.as_ref().and_then(|last| last.lacking),
            unreached: None,
            last,
        };
        place.judge(now);
        place
    }

    /// Looks into it, where it answers at once. `ours` are the main repository's snapshots.
    pub(crate) fn look(
        &mut self,
        copy: &Profile,
        ours: &[Snapshot],
        now: DateTime<Local>,
        stop: &Stop,
    ) {
        let looked = Repository::open_at_once(&copy.reach, stop, Ui::silent()).and_then(|there| {
            let (files, unreadable) = there.snapshots_or_readable()?;
            let held = origin::readable(&there, &files, Some(copy), None)?;
            let lacking = lacking(ours, &held, &copy.retention, &now)?;
            let main = copy.series.first().map(|series| series.name.as_str());
            let newest = held
                .iter()
                .filter(|s| Some(s.series.as_str()) == main && s.is_complete())
                .filter(|s| slots::has_come(s, &now))
                .map(|s| s.time)
                .max();
            Ok((held.len(), lacking.len(), newest, unreadable))
        });
        match looked {
            Ok((held, lacking, newest, unreadable)) => {
                self.snapshots = Some(held);
                self.lacking = Some(lacking);
                self.newest = newest;
                self.unreached = unreadable;
            }
            Err(error) => self.unreached = Some(error),
        }
        self.judge(now);
    }

    /// How old what it holds is.
    pub fn age(&self, now: DateTime<Local>) -> Option<TimeDelta> {
        self.newest.map(|newest| now.fixed_offset() - newest)
    }

    fn judge(&mut self, now: DateTime<Local>) {
        self.verdict = match self.age(now).is_some_and(|age| age <= self.max_age) {
            true => Freshness::Fresh,
            false => Freshness::Stale,
        };
    }
}

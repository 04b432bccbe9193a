//! A run report is what a snapshot run did, series by series, and what it comes to.

use chrono::{DateTime, Local};

use crate::archive::taken::Taken;
use crate::commands::retention::Applied;
use crate::commands::status::Status;
use crate::error::Error;
use crate::exit::Exit;
use crate::policy::history::Snapshot;
use crate::policy::survival::dies_with_this_machine;
use crate::policy::uncovered::Uncovered;
use crate::profile::Profile;
use crate::profile::sources::Series;
use crate::repository::Repository;
use crate::state::ledger::Difference;
use crate::words::{age, by_restic};

/// What a run did.
#[derive(Debug)]
pub struct RunReport {
    /// When it started; the snapshots' time.
    pub now: DateTime<Local>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The only sources that were asked for; empty for all.
    pub only: Vec<String>,
    /// The location, without credentials.
    pub location: String,
    /// The repository's id.
    pub repository_id: String,
    /// One for each series taken, in order.
    pub series: Vec<SeriesReport>,
    /// What became of retention, if it was applied.
    pub retention: Option<Result<Applied, Error>>,
    /// Whether it is the server's own side's.
    pub append_only: bool,
    /// What the repository holds in the end, where metrics are asked for.
    pub status: Option<Status>,
    /// Snapshot files that cannot be read, if there are any: the run went on without them.
    pub unreadable: Option<Error>,
    /// What lies in HAPI's home, is in no snapshot, and was not told before.
    pub uncovered: Vec<Uncovered>,
    /// What helps against all of that.
    pub uncovered_hint: String,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// What the operator decided and is reminded of.
    pub remarks: Vec<String>,
    /// Whether the snapshots there are differ from what this machine knows of them.
    pub is_odd: bool,
}

/// What became of one series.
#[derive(Debug)]
pub struct SeriesReport {
    /// Its name.
    pub name: String,
    /// What was taken, or why there is no snapshot.
    pub taken: Result<Taken, Error>,
}

impl SeriesReport {
    /// Writes down what became of a series.
    pub fn of(series: &Series, taken: Result<Taken, Error>) -> Self {
        Self {
            name: series.name.clone(),
            taken,
        }
    }
}

impl RunReport {
    /// A report with nothing in it yet but what the profile and the snapshots there are give reason to say.
    pub fn begin(
        profile: &Profile,
        repository: &Repository,
        history: &[Snapshot],
        now: DateTime<Local>,
        dry_run: bool,
    ) -> Self {
        let (mut warnings, mut remarks) = (Vec::new(), Vec::new());
        warnings.extend(profile.about_secrets(&|_| false));
        warnings.extend(from_the_future(history, &now));
        remarks.extend(dies_with_this_machine(profile).map(|fact| format!("warning: {fact}")));
        Self {
            now,
            dry_run,
            only: Vec::new(),
            location: profile.reach.location.to_string(),
            repository_id: repository.id(),
            series: Vec::new(),
            retention: None,
            append_only: profile.append_only,
            unreadable: None,
            remarks,
            is_odd: false,
            status: None,
            uncovered: Vec::new(),
            uncovered_hint: String::new(),
            warnings,
        }
    }

    /// Says what this machine saved and is gone, and what another one wrote.
    pub fn differs_from_ledger(&mut self, difference: &Difference) {
        self.warnings.extend(difference.news());
        self.is_odd |= difference.is_new();
    }

    /// Whether something about a complete run is odd, and told now.
    pub fn is_odd(&self) -> bool {
        self.is_odd
            || self
                .series
                .iter()
                .filter_map(|s| s.taken.as_ref().ok())
                .any(|t| (t.shrunk.is_some() && !t.shrunk_before) || !t.quiet.is_empty())
    }

    /// Whether any snapshot was saved.
    pub fn saved_any(&self) -> bool {
        self.series
            .iter()
            .any(|s| s.taken.as_ref().is_ok_and(|t| t.snapshot.is_some()))
    }

    /// The exit code: 0 only where every series was taken whole and retention applied.
    pub fn exit(&self) -> Exit {
        let errors: Vec<&Error> = self
            .series
            .iter()
            .filter_map(|s| s.taken.as_ref().err())
            .collect();
        if errors.iter().any(|e| matches!(e, Error::Unproven { .. })) {
            return Exit::Failed;
        }
        if let Some(error) = errors.first() {
            return if self.saved_any() {
                Exit::Incomplete
            } else {
                error.exit()
            };
        }
        let whole = self
            .series
            .iter()
            .filter_map(|s| s.taken.as_ref().ok())
            .all(|t| t.manifest.is_complete());
        let retained = self.retention.as_ref().is_none_or(Result::is_ok);
        if whole && retained && self.unreadable.is_none() {
            Exit::Complete
        } else {
            Exit::Incomplete
        }
    }
}

/// Says so where a snapshot is dated after today: either it or this run has a wrong date.
fn from_the_future(history: &[Snapshot], now: &DateTime<Local>) -> Option<String> {
    let newest = history.iter().max_by_key(|s| s.time)?;
    let ahead = newest.time.to_utc() - now.to_utc();
    (ahead > chrono::TimeDelta::days(1)).then(|| {
        format!(
            "the snapshot {} is dated {}, {} from now: is the clock right? (if it is, {} removes what a wrong one dated)",
            &newest.id.to_hex()[..8],
            newest.time.format("%Y-%m-%d"),
            age(ahead),
            format_args!(by_restic!("forget {}"), &newest.id.to_hex()[..8])
        )
    })
}

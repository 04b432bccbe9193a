//! Metrics are what a monitoring system is told of a repository and of the last run: a file in
//! Prometheus' text format (version 0.0.4), for node_exporter's textfile collector.
//!
//! The file appears whole or not at all, and readable for others, as the collector is somebody
//! else. A run that could not look into the repository leaves what the file says of snapshots as it
//! was, ages apart, and says how it ended: a backup that fails must not make its own age vanish.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chrono::{DateTime, FixedOffset, Local};

use crate::commands::status::Status;
use crate::error::Error;
use crate::machine::private_files::is_absent;
use crate::policy::freshness::Freshness;
use crate::policy::slots::State;
use crate::state::drills::DrillOutcome;
use crate::state::last_run::LastRun;

const PREFIX: &str = "rustic_hapi_";
const LAST_RUN: &str = "last_run_";
const COMPLETE_TIME: &str = "snapshot_last_complete_timestamp_seconds";
const MAX_AGE: &str = "snapshot_max_age_seconds";
const STALE: &str = "snapshot_stale";
const COMPLETE_AGE: &str = "snapshot_last_complete_age_seconds";

/// What a status says, and the last run that it knows of.
pub(crate) fn text(profile: &str, status: &Status) -> String {
    let mut text = of_status(profile, status);
    if let Some(run) = &status.run {
        text += &of_run(profile, run);
    }
    text
}

/// What is known after a run: with no status, what `before` (the file so far) says of snapshots.
pub(crate) fn text_after_run(
    profile: &str,
    status: Option<&Status>,
    run: &LastRun,
    before: &str,
    now: DateTime<Local>,
) -> String {
    let mut text = match status {
        Some(status) => of_status(profile, status),
        None => kept(before, now),
    };
    text += &of_run(profile, run);
    text
}

/// The file so far; empty where there is none.
///
/// # Errors
/// [`Error::State`] where it is there and cannot be read.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    match fs::read(path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if is_absent(&error) => Ok(String::new()),
        Err(error) => Err(Error::at(path)(error)),
    }
}

/// Puts the file down, 0644, whole or not at all.
///
/// # Errors
/// [`Error::State`] with the file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let put = || -> io::Result<()> {
        // The collector takes `*.prom`; this name ends otherwise.
        let mut file = tempfile::Builder::new()
            .prefix(".rustic-hapi-")
            .suffix(".tmp")
            .tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        // The process's umask keeps everything to its owner.
        file.as_file()
            .set_permissions(Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    put().map_err(Error::at(path))
}

fn of_status(profile: &str, status: &Status) -> String {
    let own = [("profile", profile)];
    let mut families = Families::default();
    for series in &status.series {
        let labels = [("profile", profile), ("series", series.name.as_str())];
        if let Some(newest) = &series.newest {
            families.add(
                COMPLETE_TIME,
                "Time of the newest complete snapshot.",
                &labels,
                timestamp(newest.time),
            );
        }
        if let Some(age) = series.age(status.time) {
            families.add(
                COMPLETE_AGE,
                "Age of the newest complete snapshot when this file was written.",
                &labels,
                age.num_seconds(),
            );
        }
        families.add(
            MAX_AGE,
            "How old the newest complete snapshot may be.",
            &labels,
            series.max_age.num_seconds(),
        );
        families.add(
            STALE,
            "1 where the newest complete snapshot is older than it may be, or there is none.",
            &labels,
            i64::from(series.verdict == Freshness::Stale),
        );
        let (complete, partial) = series.counts;
        families.add("snapshots", "Complete snapshots.", &labels, complete);
        families.add("snapshots_partial", "Partial snapshots.", &labels, partial);
        if status.profile.is_some() {
            for (name, help, state) in [
                (
                    "slots_missed",
                    "Missed slots of the last 28.",
                    State::Missed,
                ),
                (
                    "slots_partial",
                    "Slots of the last 28 with a partial snapshot only.",
                    State::Partial,
                ),
            ] {
                families.add(name, help, &labels, series.slots_that_are(state));
            }
        }
        for (source, summary) in &series.sources {
            let labels = [labels[0], labels[1], ("source", source.as_str())];
            families.add(
                "source_bytes",
                "Bytes of a source in the newest complete snapshot.",
                &labels,
                summary.bytes,
            );
            for (table, rows) in &summary.rows {
                let labels = [labels[0], labels[1], labels[2], ("table", table.as_str())];
                if let Some(rows) = rows {
                    families.add(
                        "rows",
                        "Rows of a table in the newest complete snapshot.",
                        &labels,
                        rows,
                    );
                }
            }
        }
        if let Some((database, newest)) = series
            .database
            .as_ref()
            .and_then(|database| Some((database, database.newest?)))
        {
            let labels = [labels[0], labels[1], ("source", database.source.as_str())];
            families.add(
                "newest_row_timestamp_seconds",
                "Time of the newest row in the newest complete snapshot.",
                &labels,
                newest.timestamp(),
            );
        }
    }
    families.add(
        "repository_bytes",
        "Bytes of all files of the repository.",
        &own,
        status.sizes.bytes(),
    );
    if let Some(drill) = &status.drill {
        families.add(
            "last_drill_timestamp_seconds",
            "Time of the last drill of this machine.",
            &own,
            timestamp(drill.time),
        );
        families.add(
            "last_drill_proven",
            "1 where the last drill proved that everything comes back.",
            &own,
            i64::from(drill.outcome == DrillOutcome::Proven),
        );
    }
    if let Some(check) = &status.check {
        families.add(
            "last_check_timestamp_seconds",
            "Time of the last check of this machine.",
            &own,
            timestamp(check.time),
        );
        families.add(
            "last_check_findings",
            "How many things the last check found wrong.",
            &own,
            check.findings,
        );
    }
    families.0
}

fn of_run(profile: &str, run: &LastRun) -> String {
    let own = [("profile", profile)];
    let mut families = Families::default();
    families.add(
        "last_run_exit_code",
        "Exit code of the last run of `snapshot`.",
        &own,
        run.exit,
    );
    families.add(
        "last_run_timestamp_seconds",
        "Time at which the last run of `snapshot` ended.",
        &own,
        timestamp(run.time),
    );
    families.0
}

/// What the file said, without the last run, and with ages as they are now.
fn kept(before: &str, now: DateTime<Local>) -> String {
    let about = |line: &str, what: &str| {
        let line = line
            .strip_prefix("# HELP ")
            .or_else(|| line.strip_prefix("# TYPE "))
            .unwrap_or(line);
        line.strip_prefix(PREFIX)
            .is_some_and(|name| name.starts_with(what))
    };
    // `NAME{labels} value`; a label may have spaces.
    let sample = |line: &str| -> Option<(String, i64)> {
        let (labels, value) = line.rsplit_once(' ')?;
        Some((labels[labels.find('{')?..].to_owned(), value.parse().ok()?))
    };
    let samples = |name: &str| -> Vec<(String, i64)> {
        before
            .lines()
            .filter(|line| !line.starts_with('#') && about(line, name))
            .filter_map(sample)
            .collect()
    };
    let (times, limits) = (samples(COMPLETE_TIME), samples(MAX_AGE));
    let of = |samples: &[(String, i64)], labels: &str| {
        samples.iter().find(|(of, _)| of == labels).map(|(_, n)| *n)
    };
    // What else is in the file is not ours, and may make all of it unreadable.
    let ours = before
        .lines()
        .filter(|line| about(line, "") && !about(line, LAST_RUN));
    let mut text = String::new();
    for line in ours {
        // What time alone changes is told as it is now, however long nothing else is known.
        let is = |name| !line.starts_with('#') && about(line, name);
        let labels = sample(line).map(|(labels, _)| labels).unwrap_or_default();
        let age = of(&times, &labels).map(|time| (now.timestamp() - time).max(0));
        _ = match (age, of(&limits, &labels)) {
            (Some(age), _) if is(COMPLETE_AGE) => {
                writeln!(text, "{PREFIX}{COMPLETE_AGE}{labels} {age}")
            }
            (Some(age), Some(limit)) if is(STALE) => {
                writeln!(text, "{PREFIX}{STALE}{labels} {}", i64::from(age > limit))
            }
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

fn timestamp(time: DateTime<FixedOffset>) -> i64 {
    time.timestamp()
}

/// All samples of a metric stand together, below its help and type.
#[derive(Default)]
struct Families(String);

impl Families {
    fn add(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let sample = format!("{PREFIX}{name}{{{}}} {value}\n", labels.join(","));
        let head = format!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} gauge\n");
        match self.0.find(&head) {
            Some(at) => {
                let from = at + head.len();
                let end = self.0[from..]
                    .find("# HELP ")
                    .map_or(self.0.len(), |next| from + next);
                self.0.insert_str(end, &sample);
            }
            None => {
                self.0 += &head;
                self.0 += &sample;
            }
        }
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn labels_are_escaped_and_families_stay_together() {
        let mut families = Families::default();
        families.add("a", "A.", &[("x", "q\"\\\n")], 1);
        families.add("b", "B.", &[], 2);
        families.add("a", "A.", &[("x", "# HELP")], 3);
        assert_eq!(
            families.0,
            "# HELP rustic_hapi_a A.\n# TYPE rustic_hapi_a gauge\nrustic_hapi_a{x=\"q\\\"\\\\\\n\"} 1\nrustic_hapi_a{x=\"# HELP\"} 3\n# HELP rustic_hapi_b B.\n# TYPE rustic_hapi_b gauge\nrustic_hapi_b{} 2\n"
        );
    }

    #[test]
    fn a_run_that_saw_nothing_keeps_what_was_known_and_lets_it_age() {
        let now = Local.timestamp_opt(5_000, 0).unwrap();
        let mut families = Families::default();
        let labels = [("series", "a b")];
        families.add(COMPLETE_TIME, "T.", &labels, 1_000);
        families.add(COMPLETE_AGE, "A.", &labels, 1);
        let run = |exit| LastRun {
            time: now.fixed_offset(),
            exit,
            error: None,
        };
        let before = "torn{\n".to_owned() + &families.0 + &of_run("p", &run(0));
        let after = text_after_run("p", None, &run(11), &before, now);
        assert!(
            after.contains("_age_seconds{series=\"a b\"} 4000\n"),
            "{after}"
        );
        assert!(after.contains("_timestamp_seconds{series=\"a b\"} 1000\n"));
        assert!(after.contains("last_run_exit_code{profile=\"p\"} 11\n"));
        assert!(!after.contains("torn"), "{after}");
        assert_eq!(
            after
                .matches("# TYPE rustic_hapi_last_run_exit_code")
                .count(),
            1
        );
    }
}

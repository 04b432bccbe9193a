//! Metrics are what a monitoring system is told of a repository and of the last run: a file in
//! Prometheus' text format (version 0.0.4), for node_exporter's textfile collector.
//!
//! The file appears whole or not at all, and readable for others, as the collector is somebody
//! else. It has times, not ages, so that what it says stays true however old it is: a run that could not
//! look into the repository leaves what the file says of snapshots as it was, and says how it ended.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chrono::{DateTime, FixedOffset};

use crate::commands::status::Status;
use crate::error::Error;
use crate::machine::record;
use crate::policy::slots::State;
use crate::state::drills::DrillOutcome;
use crate::state::last_run::LastRun;

const PREFIX: &str = "rustic_hapi_";

/// What a status says, and the last run that it knows of.
pub(crate) fn text(profile: &str, status: &Status) -> String {
    let mut text = of_status(profile, status);
    if let Some(run) = &status.run {
        text += &of_run(profile, run);
    }
    text
}

/// Writes what is known after a run: with no status, what the file so far says of snapshots.
///
/// # Errors
/// [`Error::State`] with the file.
pub(crate) fn write_after_run(
    path: &Path,
    profile: &str,
    status: Option<&Status>,
    run: &LastRun,
) -> Result<(), Error> {
    let known = match status {
        Some(status) => of_status(profile, status),
        None => kept(&String::from_utf8_lossy(
            &record::read(path)?.unwrap_or_default(),
        )),
    };
    write(path, &(known + &of_run(profile, run)))
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
    for copy in &status.copies {
        let labels = [("profile", profile), ("copy", copy.name.as_str())];
        if let Some(newest) = copy.newest {
            families.add(
                "copy_last_complete_timestamp_seconds",
                "Time of the newest complete snapshot of the main series in a copy.",
                &labels,
                timestamp(newest),
            );
        }
        families.add(
            "copy_max_age_seconds",
            "How old the newest complete snapshot in a copy may be.",
            &labels,
            copy.max_age.num_seconds(),
        );
    }
    for series in &status.series {
        let labels = [("profile", profile), ("series", series.name.as_str())];
        if let Some(newest) = &series.newest {
            families.add(
                "snapshot_last_complete_timestamp_seconds",
                "Time of the newest complete snapshot.",
                &labels,
                timestamp(newest.time),
            );
        }
        families.add(
            "snapshot_max_age_seconds",
            "How old the newest complete snapshot may be.",
            &labels,
            series.max_age.num_seconds(),
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

/// What the file said, without the last run. What else is in it is not ours, and may make all of it unreadable.
fn kept(before: &str) -> String {
    let is_kept = |line: &&str| {
        let name = line
            .trim_start_matches("# HELP ")
            .trim_start_matches("# TYPE ");
        name.strip_prefix(PREFIX)
            .is_some_and(|name| !name.starts_with("last_run_"))
    };
    let lines = before.lines().filter(is_kept);
    lines.map(|line| format!("{line}\n")).collect()
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
    fn a_run_that_saw_nothing_keeps_what_was_known_of_snapshots() {
        let run = |exit| {
            let time = DateTime::UNIX_EPOCH.fixed_offset();
            of_run(
                "p",
                &LastRun {
                    time,
                    exit,
                    error: None,
                },
            )
        };
        let mut families = Families::default();
        families.add("rows", "R.", &[("series", "a b")], 1_000);
        let before = "torn{\n".to_owned() + &families.0 + &run(0);
        assert_eq!(kept(&before) + &run(11), families.0 + &run(11));
    }
}

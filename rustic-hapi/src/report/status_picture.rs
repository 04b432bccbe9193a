//! What a status shows: a picture for a terminal, a block for an issue. One noun, so it stays together.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, FixedOffset, Local, NaiveDate, NaiveTime, TimeDelta};
use hapi_sources::Kind;

use crate::commands::check::{SHARES, Share};
use crate::commands::status::Status;
use crate::policy::counts::counts;
use crate::policy::description::{Outcome, SourceSummary};
use crate::policy::freshness::{Database, Freshness, SeriesStatus};
use crate::policy::slots::{Slot, State, Visit};
use crate::profile::policy::Policy;
use crate::state::drills::DrillOutcome;
use crate::terminal::paint::Paint;
use crate::words::{bytes, code, grouped, plural};

/// From here on a day has too many slots for a row each.
const MOST_ROWS: usize = 6;

/// Columns of a calendar that fit into 80.
const COLUMNS: usize = 15;

/// How things are drawn.
#[derive(Clone, Copy)]
struct Pen {
    paint: Paint,
    unicode: bool,
}

impl Status {
    /// The picture, for 80 columns.
    pub fn text(&self, colour: bool, unicode: bool) -> String {
        let pen = Pen {
            paint: Paint(colour),
            unicode,
        };
        let mut text = String::new();
        let host = if self.host.is_empty() {
            "no host"
        } else {
            &self.host
        };
        _ = writeln!(
            text,
            "{} {} {}",
            pen.paint.bold(host),
            pen.arrow(),
            self.location
        );
        for series in &self.series {
            text.push('\n');
            text += &series_text(series, self.time, pen);
        }
        text.push('\n');
        for (name, what) in self.footer() {
            _ = writeln!(text, "{}{what}", pen.paint.dim(&format!("{name:12}")));
        }
        text
    }

    /// What holds for all series: a word and a line each.
    fn footer(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let others = match self.others {
            0 => String::new(),
            n => format!(", {n} of others"),
        };
        lines.push((
            "repository",
            format!(
                "{} in {} {}; {} {}{others}",
                bytes(self.sizes.bytes()),
                grouped(self.sizes.packs.files),
                plural(self.sizes.packs.files, "pack", "packs"),
                self.snapshots,
                plural(self.snapshots as u64, "snapshot", "snapshots"),
            ),
        ));
        let oldest = |time: Option<DateTime<FixedOffset>>| match time {
            Some(time) => format!("oldest {} ({})", day(time), self.ago(time)),
            None => "no snapshot yet".to_owned(),
        };
        match &self.retention {
            None => lines.push((
                "retention",
                format!("{}; the policy is in the profile", oldest(self.oldest)),
            )),
            Some(retention) => {
                let going = match retention.removable {
                    0 => String::new(),
                    n => format!("; the next run removes {n}"),
                };
                lines.push((
                    "retention",
                    format!(
                        "{}; {}{going}",
                        oldest(retention.oldest),
                        policy(&retention.policy)
                    ),
                ));
                for (snapshot, why) in &retention.pins {
                    lines.push(("pinned", format!("{snapshot}  {}", why.join(", "))));
                }
            }
        }
        for copy in &self.copies {
            let old = match copy.newest {
                Some(newest) => format!("{} old", self.ago(newest)),
                None => "no complete snapshot".to_owned(),
            };
            let (held, lacking) = (copy.snapshots, copy.lacking.unwrap_or(0) as u64);
            let held = held.map_or_else(String::new, |n| {
                format!(", {n} {}", plural(n as u64, "snapshot", "snapshots"))
            });
            let lacking = match lacking {
                0 => String::new(),
                n => format!(", lacks {n}"),
            };
            lines.push((
                "copy",
                format!(
                    "{}: {}, {old}{held}{lacking}; {}",
                    copy.name,
                    copy.verdict.in_words(),
                    copy.location
                ),
            ));
        }
        if let Some(run) = &self.run {
            let error = run
                .error
                .as_ref()
                .map(|error| format!(": {error}"))
                .unwrap_or_default();
            lines.push((
                "last run",
                format!("{} ago, exit code {}{error}", self.ago(run.time), run.exit),
            ));
        }
        if let Some(schedule) = &self.schedule {
            lines.push(("schedule", schedule.clone()));
        }
        lines.push(("last check", self.last_check()));
        lines.push(("last drill", self.last_drill()));
        lines
    }

    fn last_check(&self) -> String {
        match &self.check {
            None => "never on this machine".to_owned(),
            Some(check) => {
                let found = match check.findings {
                    0 => "nothing wrong".to_owned(),
                    1 => "1 thing WRONG".to_owned(),
                    n => format!("{n} things WRONG"),
                };
                let read = match check.read {
                    Share::All => "all data read".to_owned(),
                    Share::OneOf(nth) => format!("part {nth} of {SHARES} of the data read"),
                };
                format!("{} ago: {found}, {read}", self.ago(check.time))
            }
        }
    }

    fn last_drill(&self) -> String {
        let Some(drill) = &self.drill else {
            return "never on this machine".to_owned();
        };
        let ended = match drill.outcome {
            DrillOutcome::Proven => format!(
                "proven, {} restored in {:.1} s",
                bytes(drill.bytes),
                drill.restore_seconds
            ),
            DrillOutcome::Difference => "found a DIFFERENCE".to_owned(),
            DrillOutcome::Failed if drill.had_wrong_identity() => {
                "secrets were NOT DECRYPTED: the identity is not one of the recipients'".to_owned()
            }
            DrillOutcome::Failed => "could NOT BE RUN".to_owned(),
        };
        let proven = match self.proven {
            Some(proven) if drill.outcome != DrillOutcome::Proven => {
                format!("; last proven {} ago", self.ago(proven))
            }
            _ => String::new(),
        };
        format!("{} ago: {ended}{proven}", self.ago(drill.time))
    }

    fn ago(&self, time: DateTime<FixedOffset>) -> String {
        age((self.time.to_utc() - time.to_utc()).max(TimeDelta::zero()))
    }

    /// A block to paste: what somebody who takes over has to know, and nothing that opens anything.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        _ = writeln!(
            text,
            "### Backup of {} on {}\n",
            code(&self.host),
            self.time.format("%Y-%m-%d %H:%M %:z")
        );
        _ = writeln!(text, "| | |\n|---|---|");
        let mut row = |name: &str, what: &str| {
            _ = writeln!(text, "| {name} | {} |", what.replace('|', "\\|"));
        };
        row("destination", &code(&self.location));
        row("repository", &code(&self.repository));
        row("schedule", &self.schedule());
        for series in &self.series {
            let newest = match &series.newest {
                Some(newest) => format!(
                    "{}: newest complete snapshot {}, {} old",
                    series.verdict.in_words(),
                    code(&newest.to_string()),
                    self.ago(newest.time)
                ),
                None => format!("{}: no complete snapshot", series.verdict.in_words()),
            };
            let slots = match series.slots.is_empty() {
                true => String::new(),
                false => format!("; {}", tally(series)),
            };
            row(
                &format!("series {}", code(&series.name)),
                &format!("{newest}{slots}"),
            );
        }
        for (name, what) in self.footer() {
            let name = if name == "repository" { "size" } else { name };
            row(name, &what);
        }
        text
    }

    fn schedule(&self) -> String {
        if self.profile.is_none() {
            return "unknown: there is no profile here".to_owned();
        }
        let at: Vec<_> = self.at.iter().map(time_of_day).collect();
        let mut text = format!("{}, local time", at.join(", "));
        for series in self.series.iter().filter(|s| s.weekly) {
            let next = series.next.as_ref();
            let day =
                next.map_or_else(String::new, |slot| format!(", {}", slot.local.format("%A")));
            _ = write!(text, "; {} weekly{day}", code(&series.name));
        }
        text
    }
}

fn series_text(series: &SeriesStatus, now: DateTime<Local>, pen: Pen) -> String {
    let paint = pen.paint;
    let word = series.verdict.in_words();
    let verdict = match series.verdict {
        // What came last is not whole: that is not green.
        Freshness::Fresh if series.partial.is_some() => paint.yellow(word),
        Freshness::Fresh => paint.green(word),
        Freshness::Late => paint.yellow(word),
        Freshness::Stale => paint.red(word),
        Freshness::Empty => word.to_owned(),
    };
    let mut text = format!("{}  {verdict}: ", paint.bold(&series.name));
    text += &match (series.age(now), series.verdict) {
        (Some(old), _) => format!("newest complete snapshot {} old", age(old)),
        (None, Freshness::Empty) => "none of its sources exists here; all are optional".to_owned(),
        (None, _) => "there is no complete snapshot".to_owned(),
    };
    match &series.next {
        Some(next) => _ = writeln!(text, "; next slot {}", when(next, now)),
        None => _ = writeln!(text, "; the limit is {}", age(series.max_age)),
    }
    if let Some(partial) = &series.partial {
        let outcomes = partial.description.iter().flat_map(|d| &d.sources);
        let wrong: Vec<String> = outcomes
            .filter(|(_, s)| !s.outcome.is_sound())
            .map(|(name, s)| format!("{name} is {}", s.outcome.in_words()))
            .collect();
        let old = age((now.to_utc() - partial.time.to_utc()).max(TimeDelta::zero()));
        let wrong = match wrong.is_empty() {
            true => String::new(),
            false => format!(": {}", wrong.join(", ")),
        };
        _ = writeln!(
            text,
            "  {}{wrong}",
            paint.yellow(&format!("the newest snapshot, {old} old, is partial"))
        );
    }
    text += &grid(series, now, pen);
    text += &sources(series, now);
    if let Some(database) = &series.database {
        text += &over_time(database, pen);
    }
    text
}

/// The slots as a picture, with what its signs mean and how many there are of each.
fn grid(series: &SeriesStatus, now: DateTime<Local>, pen: Pen) -> String {
    let mut times: Vec<NaiveTime> = series.slots.iter().map(|v| v.slot.local.time()).collect();
    times.sort_unstable();
    times.dedup();
    let seen = |v: &&Visit<Local>| v.state != State::Before;
    if !series.slots.iter().any(|v| seen(&v)) {
        return String::new();
    }
    let mut text = match series.weekly || times.len() > MOST_ROWS {
        true => strip(series, pen),
        false => calendar(series, &times, now, pen),
    };
    text += "  ";
    let mut parts = Vec::new();
    for (state, word) in [
        (State::Filled, "filled"),
        (State::Partial, "partial"),
        (State::Missed, "missed"),
        (State::Pending, "still to come"),
        (State::Forgotten, "removed by retention"),
    ] {
        let number = series.slots_that_are(state);
        if number > 0 || state == State::Filled {
            parts.push(format!("{} {number} {word}", pen.cell(state)));
        }
    }
    _ = writeln!(text, "{}", parts.join("  "));
    text
}

/// A column a day, a row for each of its slots.
fn calendar(series: &SeriesStatus, times: &[NaiveTime], now: DateTime<Local>, pen: Pen) -> String {
    let mut days: Vec<NaiveDate> = series.slots.iter().map(|v| v.slot.local.date()).collect();
    days.dedup();
    let today = now.date_naive();
    let mut text = String::new();
    for days in days.chunks(if days.len() > COLUMNS {
        COLUMNS - 1
    } else {
        COLUMNS
    }) {
        let mut head = String::new();
        for day in days {
            _ = write!(head, " {:>2}", day.day());
        }
        let mut names = String::new();
        for day in days {
            let name = &day.format("%a").to_string()[..2];
            let name = match *day == today {
                true => pen.paint.bold(name),
                false => pen.paint.dim(name),
            };
            _ = write!(names, " {name}");
        }
        _ = writeln!(text, "        {}", pen.paint.dim(&head));
        _ = writeln!(text, "        {names}");
        for time in times {
            _ = write!(text, "  {} ", time_of_day(time));
            for day in days {
                let local = day.and_time(*time);
                let state = series.slots.iter().find(|v| v.slot.local == local);
                let cell = state.map_or_else(|| " ".to_owned(), |v| pen.cell(v.state));
                _ = write!(text, "  {cell}");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
    }
    text
}

/// One sign a slot, from the first that counts to the last.
fn strip(series: &SeriesStatus, pen: Pen) -> String {
    let counted: Vec<_> = series
        .slots
        .iter()
        .skip_while(|v| matches!(v.state, State::Before | State::Forgotten))
        .collect();
    let cells: Vec<String> = counted.iter().map(|v| pen.cell(v.state)).collect();
    let since = counted.first().map_or_else(String::new, |first| {
        pen.paint
            .dim(&format!("  since {}", first.slot.time.format("%Y-%m-%d")))
    });
    format!("  {}{since}\n", cells.join(" "))
}

fn sources(series: &SeriesStatus, now: DateTime<Local>) -> String {
    let (absent, there): (Vec<_>, Vec<_>) = series
        .sources
        .iter()
        .partition(|(_, summary)| summary.outcome == Outcome::Absent);
    // A long name may stand out; a line that wraps would not be a picture.
    const WIDEST: usize = 16;
    let width = there
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0)
        .min(WIDEST);
    let mut text = String::new();
    for (name, summary) in there {
        let line = format!(
            "  {name:width$}  {:>10}  {}",
            bytes(summary.bytes),
            in_words(summary, now)
        );
        _ = writeln!(text, "{}", line.trim_end());
    }
    // Nobody misses them: the profile says that they need not exist.
    let mut line = String::new();
    for (name, _) in absent {
        let wider = line.chars().count() + name.chars().count() + 2;
        if line.is_empty() || wider > 78 {
            text += &line;
            line = format!(
                "{}  absent: {name}",
                if line.is_empty() { "" } else { "\n" }
            );
        } else {
            _ = write!(line, ", {name}");
        }
    }
    text += &line;
    if !line.is_empty() {
        text.push('\n');
    }
    text
}

fn in_words(summary: &SourceSummary, now: DateTime<Local>) -> String {
    match (summary.outcome, summary.kind) {
        (_, Kind::Sqlite) => counts(summary, None, now),
        (_, Kind::Glob | Kind::Dir) => format!(
            "{} {}",
            grouped(summary.files),
            plural(summary.files, "file", "files")
        ),
        _ => String::new(),
    }
}

/// What is counted, its values, oldest first, and how one is written.
type Course<'a> = (&'a str, Vec<u64>, fn(u64) -> String);

/// How rows and bytes went, and whether anything new comes in at all.
fn over_time(database: &Database, pen: Pen) -> String {
    let mut rows: Vec<Course<'_>> = Vec::new();
    for (nth, table) in database.tables.iter().enumerate() {
        let known = database.points.iter().filter_map(|p| p.rows[nth]);
        rows.push((table, known.collect(), grouped));
    }
    let sizes = database.points.iter().map(|p| p.bytes).collect();
    rows.push(("bytes", sizes, bytes));
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, values, show) in rows {
        // One value is no course of things.
        let (Some(first), Some(last), true) = (values.first(), values.last(), values.len() > 1)
        else {
            continue;
        };
        _ = writeln!(
            text,
            "  {}  {}  {} {} {}",
            pen.paint.dim(&format!("{name:width$}")),
            pen.spark(&values),
            show(*first),
            pen.arrow(),
            show(*last)
        );
    }
    if database.still > 1 {
        _ = writeln!(
            text,
            "  {}",
            pen.paint.yellow(&format!(
                "{} has had no new rows in the last {} snapshots",
                database.source, database.still
            ))
        );
    }
    text
}

impl Pen {
    fn arrow(self) -> &'static str {
        if self.unicode { "→" } else { "->" }
    }

    fn cell(self, state: State) -> String {
        let (unicode, ascii) = match state {
            State::Filled => ("■", "#"),
            State::Partial => ("◧", "%"),
            State::Missed => ("✗", "x"),
            State::Pending => ("?", "?"),
            State::Before => (" ", " "),
            State::Forgotten => ("·", "."),
        };
        let sign = if self.unicode { unicode } else { ascii };
        match state {
            State::Filled => self.paint.green(sign),
            State::Partial => self.paint.yellow(sign),
            State::Missed => self.paint.red(sign),
            State::Forgotten => self.paint.dim(sign),
            State::Pending | State::Before => sign.to_owned(),
        }
    }

    /// Values as bars between the least and the greatest of them.
    fn spark(self, values: &[u64]) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        const ASCII: [char; 8] = ['_', '.', ',', '-', '~', '=', '+', '#'];
        let bars = if self.unicode { BARS } else { ASCII };
        let (least, greatest) = (
            values.iter().min().copied().unwrap_or(0),
            values.iter().max().copied().unwrap_or(0),
        );
        values
            .iter()
            .map(|value| {
                let height = u128::from(value - least) * 7 / u128::from((greatest - least).max(1));
                bars[usize::try_from(height).unwrap_or(0).min(7)]
            })
            .collect()
    }
}

/// "25 of the last 28 slots filled, 1 partial, 2 missed".
fn tally(series: &SeriesStatus) -> String {
    let expected = series
        .slots
        .iter()
        .filter(|v| matches!(v.state, State::Filled | State::Partial | State::Missed))
        .count();
    format!(
        "{} of the last {expected} {} filled, {} partial, {} missed",
        series.slots_that_are(State::Filled),
        plural(expected as u64, "slot", "slots"),
        series.slots_that_are(State::Partial),
        series.slots_that_are(State::Missed),
    )
}

fn policy(policy: &Policy) -> String {
    let hours = policy.keep_within_hours;
    let within = match hours % 24 {
        0 => format!("{} days", hours / 24),
        _ => format!("{hours} h"),
    };
    let mut parts = vec![format!(
        "keeps all for {within}, {} daily",
        policy.keep_daily
    )];
    for (number, what) in [
        (policy.keep_weekly, "weekly"),
        (policy.keep_monthly, "monthly"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    parts.join(", ")
}

fn when(slot: &Slot<Local>, now: DateTime<Local>) -> String {
    let away = slot.time.date_naive() - now.date_naive();
    let time = slot.time.format("%H:%M");
    match away.num_days() {
        0 => format!("today {time}"),
        1 => format!("tomorrow {time}"),
        2..=6 => format!("{} {time}", slot.time.format("%a")),
        _ => format!("{} {time}", slot.time.format("%Y-%m-%d")),
    }
}

/// A length of time, in hours for as long as hours are what limits are counted in.
pub(super) fn age(delta: TimeDelta) -> String {
    match delta.num_hours() {
        hours @ 36..100 => format!("{hours} h"),
        _ => crate::words::age(delta),
    }
}

fn day(time: DateTime<FixedOffset>) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d").to_string()
}

fn time_of_day(time: &NaiveTime) -> String {
    time.format("%H:%M").to_string()
}

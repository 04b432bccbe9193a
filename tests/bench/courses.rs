//! The courses that a race can take: what is of every day, what is seldom, growing sizes, sixty days, files.
//! Each ends as a section of docs/performance.md.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use hapi_sources::IntegrityCheck;
use rustic_hapi::synthetic::{Shape, write_notes, write_wav};
use serde_json::{Value, json};

use crate::costs::{Costs, HEAD, Spread, megabytes};
use crate::page::Section;
use crate::race::Contender::{self, BackupAndRestic, BackupAndRustic, RusticHapi};
use crate::race::{Race, Work, shape_name};
use crate::{GB, Options, Result, SEED, busy_hub, limits};

/// A section for readers, and the figures behind it.
pub type Outcome = (Section, Value);

/// More of them say nothing new of a restore.
const RESTORES: u32 = 5;

/// Changes that are not of every day.
const SELDOM: [(&str, &str); 3] = [
    ("nothing changed", "SELECT 1"),
    ("every row rewritten", "UPDATE messages SET seq = seq + 1"),
    ("`VACUUM`", "VACUUM"),
];

/// The first snapshot, then one after each half day's use, with a restore; with `--all` what is seldom, too.
pub fn side_by_side(options: &Options, shape: Shape, size: u64) -> Result<Outcome> {
    let mut race = Race::prepare(options, shape, size)?;
    let about = format!("{}; {} rounds", race.describe()?, options.rounds);
    println!("\n{}: {about}", shape_name(shape));
    let mut first = Costs::of("first snapshot");
    race.once(Work::Snapshot, 0, &mut first)?;
    let (mut later, mut restore) = (Costs::of("later snapshot"), Costs::of("restore"));
    for round in 0..options.rounds {
        race.half_a_day()?;
        race.once(Work::Snapshot, round, &mut later)?;
        // A gigabyte at so many a second says how slow the link is.
        if race.server.as_ref().is_none_or(|server| !server.slow) && round < RESTORES {
            race.once(Work::Restore, round, &mut restore)?;
        }
        eprintln!("round {} of {} done", round + 1, options.rounds);
    }
    let total = |who| first.growth_mb(who) + later.growth_mb(who);
    let total = total(RusticHapi) / total(BackupAndRestic);
    let limits = race.limits("home/.hapi/hapi.db")?;
    let mut all = vec![first, later];
    if !restore.is_empty() {
        all.push(restore);
    }
    if options.all {
        for (work, sql) in SELDOM {
            all.push(race.after(work, sql, options.rounds)?);
        }
    }
    let mut table = HEAD.to_owned() + "\n";
    let mut figures = serde_json::Map::new();
    for costs in &all {
        costs.print();
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{}", costs.row());
        let _ = writeln!(table, "{}", limits.row(costs.our_wall_s()));
        figures.insert(costs.work().to_owned(), costs.json());
    }
    let snapshots = options.rounds + 1;
    println!("growth of all {snapshots} snapshots: {total:.3}");
    let _ = writeln!(
        table,
        "\nThe repository after all {snapshots} snapshots: {total:.3} of restic's."
    );
    if options.all {
        let (felt, of_hub) = busy_hub::course(&race)?;
        println!("{felt}");
        let _ = writeln!(table, "\n{felt}");
        figures.insert("busy-hub".to_owned(), of_hub);
    }
    figures.insert("growth-of-all".to_owned(), total.into());
    figures.insert("limits".to_owned(), limits.json());
    let quick = match options.integrity {
        IntegrityCheck::Full => "",
        IntegrityCheck::Quick => ", `integrity = \"quick\"`",
    };
    let server = race.server.as_ref().map_or("", |server| &server.name);
    let place = match is_in_memory(race.dir.path())? {
        true => ", in memory",
        false => "",
    };
    let (shape, size) = (shape_name(shape), size_name(size));
    let name = format!("{shape}, {size}{place}{quick}{server}");
    Ok((Section { name, about, table }, figures.into()))
}

impl Race {
    /// One work by each contender; who is first changes with the round.
    fn once(&self, work: Work, round: u32, costs: &mut Costs) -> Result<()> {
        let mut in_order: Vec<Contender> = self.contenders.clone();
        // Restores are compared with restic's alone.
        in_order.retain(|who| work == Work::Snapshot || *who != BackupAndRustic);
        let turn = usize::try_from(round)? % in_order.len();
        in_order.rotate_left(turn);
        for one in in_order {
            costs.add(one, self.measure(one, work)?);
        }
        Ok(())
    }

    /// Snapshots of all, each after the same change.
    fn after(&self, work: &'static str, sql: &str, rounds: u32) -> Result<Costs> {
        let mut costs = Costs::of(work);
        for round in 0..rounds.min(RESTORES) {
            let change = format!("sqlite3 home/.hapi/hapi.db \"{sql}\"");
            self.finish(self.shell(&change))?;
            self.once(Work::Snapshot, round, &mut costs)?;
        }
        Ok(costs)
    }

    /// What the bytes of these paths cost by themselves. They are copied by another process first: were the
    /// database opened and closed here, SQLite's locks on it would be gone, which the hub in this very process
    /// relies on.
    fn limits(&self, paths: &str) -> Result<limits::Limits> {
        self.finish(self.shell(&format!("find {paths} -type f -exec cat {{}} + > limit-of")))?;
        let copy = self.dir.path().join("limit-of");
        let limits = limits::measure(&copy, self.dir.path())?;
        fs::remove_file(copy)?;
        Ok(limits)
    }
}

/// Whether what is there never waits for a disk (Linux, `magic.h`: `TMPFS_MAGIC`).
fn is_in_memory(folder: &Path) -> Result<bool> {
    Ok(rustix::fs::statfs(folder)?.f_type == 0x0102_1994)
}

/// rustic-hapi alone on databases that grow: does time grow faster than the database, and memory with it?
pub fn sizes(options: &Options, shape: Shape) -> Result<Outcome> {
    let sizes = match options.size {
        Some(size) => vec![size],
        None => vec![GB / 100, GB / 10, GB, 4 * GB],
    };
    let mut table = "| size | first, wall a MB | later, wall a MB | restore, wall a MB | peak memory: first, later, restore |\n\
        |---|---|---|---|---|\n"
        .to_owned();
    let mut figures = serde_json::Map::new();
    let mut rows = Vec::new();
    for size in sizes {
        let mut race = Race::prepare(options, shape, size)?;
        race.contenders = vec![RusticHapi];
        let works = ["first", "later", "restore"].map(Costs::of);
        let [mut first, mut later, mut restore] = works;
        race.once(Work::Snapshot, 0, &mut first)?;
        for round in 0..options.rounds {
            race.half_a_day()?;
            race.once(Work::Snapshot, round, &mut later)?;
        }
        race.once(Work::Restore, 0, &mut restore)?;
        let mut of_this = serde_json::Map::new();
        for costs in [&first, &later, &restore] {
            costs.print();
            of_this.insert(costs.work().to_owned(), costs.json());
        }
        figures.insert(size_name(size), of_this.into());
        rows.push((size, [first, later, restore]));
    }
    // Of one gigabyte, where that is among them.
    let one = rows.iter().position(|(size, _)| *size == GB).unwrap_or(0);
    let per_mb = |row: &(u64, [Costs; 3]), nth: usize| row.1[nth].our_wall_s() / megabytes(row.0);
    for row in &rows {
        let _ = write!(table, "| {} ", size_name(row.0));
        for nth in 0..3 {
            let _ = write!(
                table,
                "| {:.2} ",
                per_mb(row, nth) / per_mb(&rows[one], nth)
            );
        }
        let peaks: Vec<String> = row
            .1
            .iter()
            .map(|costs| format!("{:.0}", costs.our_peak_mib()))
            .collect();
        let _ = writeln!(table, "| {} MiB |", peaks.join(", "));
    }
    let about = format!(
        "{} shape, rustic-hapi alone, later ones in {} rounds; times are relative to those of {}",
        shape_name(shape),
        options.rounds,
        size_name(rows[one].0)
    );
    let name = format!("growing, {}", shape_name(shape));
    Ok((Section { name, about, table }, figures.into()))
}

/// Two runs a day under `faketime`: what a run and `status` take in the first week and in the last. As many
/// messages go as come, so that it is the number of snapshots alone that grows.
pub fn days(options: &Options, shape: Shape, days: u32) -> Result<Outcome> {
    let size = options.size.unwrap_or(GB / 10);
    let mut race = Race::prepare(options, shape, size)?;
    let about = format!(
        "{}, after which as many old ones are deleted; {days} days of two runs",
        race.describe()?
    );
    println!("\n{about}");
    let (mut runs, mut statuses) = (Vec::new(), Vec::new());
    let gone = format!(
        "sqlite3 -cmd '.timeout 5000' home/.hapi/hapi.db 'DELETE FROM messages WHERE rowid IN \
         (SELECT rowid FROM messages ORDER BY rowid LIMIT {})'",
        race.shape.half_day()
    );
    // A week more in a new repository tells what is the database's part: its pages are no longer in order.
    let week_more = days * 2..days * 2 + 15;
    for slot in 0..week_more.end {
        if slot == week_more.start {
            race.begin_anew(options.integrity)?;
        }
        race.half_a_day()?;
        race.finish(race.shell(&gone))?;
        let hours = format!("+{}h", slot * 12);
        for (args, took) in [
            (["-q", "snapshot"], &mut runs),
            (["-q", "status"], &mut statuses),
        ] {
            let ours = race.ours(&args);
            let mut command = Command::new("faketime");
            command.args(["-f", &hours]).arg(ours.get_program());
            command.args(ours.get_args());
            race.settle(&mut command);
            let start = Instant::now();
            race.finish(command)?;
            took.push(start.elapsed().as_secs_f64());
        }
        if slot % 14 == 13 {
            eprintln!("week {} of {} done", slot / 14 + 1, week_more.end / 14);
        }
    }
    let mut table = "| work | the last week, to the first | to a week in a new repository, with the same database |\n|---|---|---|\n"
        .to_owned();
    let mut figures = serde_json::Map::new();
    for (name, took) in [("a run", &runs), ("`status`", &statuses)] {
        let (old, new) = took.split_at(usize::try_from(week_more.start)?);
        let first = Spread::of(old.iter().take(14).copied());
        let last = Spread::of(old.iter().rev().take(14).copied());
        // Its first run stores everything.
        let anew = Spread::of(new.iter().skip(1).copied());
        let to = |other: &Spread| {
            let relative = |s: &f64| s / other.median();
            Spread::of(old.iter().rev().take(14).map(relative)).show()
        };
        let _ = writeln!(table, "| {name} | {} | {} |", to(&first), to(&anew));
        println!(
            "{name}: first week {} s, last week {} s, anew {} s",
            first.show(),
            last.show(),
            anew.show()
        );
        figures.insert(
            name.to_owned(),
            json!({ "first-week": first.json(), "last-week": last.json(), "anew": anew.json() }),
        );
    }
    let name = format!("{days} days, {}", shape_name(shape));
    Ok((Section { name, about, table }, figures.into()))
}

/// 500 MB of WAV and 5,000 small notes, as a folder each: a first snapshot and one after a tenth of the
/// notes changed, against `restic backup` of the same folders.
pub fn files(options: &Options) -> Result<Outcome> {
    let mut race = Race::prepare(options, Shape::Plain, GB / 1000)?;
    let home = race.dir.path().join("home");
    let notes = home.join("notes");
    fs::create_dir_all(&notes)?;
    write_notes(&notes, 5_000, SEED)?;
    fs::create_dir_all(home.join("voice"))?;
    for nth in 0..50u32 {
        write_wav(
            &home.join(format!("voice/{nth:02}.wav")),
            104,
            u64::from(nth),
        )?;
    }
    let profile = race.dir.path().join("profile.toml");
    let text = fs::read_to_string(&profile)?
        + "[[source]]\nname = \"notes\"\npath = \"~/notes\"\nkind = \"dir\"\n\
           [[source]]\nname = \"voice\"\npath = \"~/voice\"\nkind = \"dir\"\n";
    fs::write(&profile, text)?;
    race.more = "home/notes home/voice";
    let about = format!(
        "50 WAV files of 10 MB, 5,000 Markdown notes, of which 500 change; {} rounds",
        options.rounds
    );
    println!("\n{about}");
    let (mut first, mut later) = (Costs::of("first snapshot"), Costs::of("later snapshot"));
    race.once(Work::Snapshot, 0, &mut first)?;
    for round in 0..options.rounds {
        for nth in 0..500 {
            let note = notes.join(format!("note-{:04}.md", nth * 10));
            fs::write(note, format!("# {round}, {nth}\n"))?;
        }
        race.once(Work::Snapshot, round, &mut later)?;
    }
    let limits = race.limits(race.more)?;
    let mut table = HEAD.to_owned() + "\n";
    for costs in [&first, &later] {
        costs.print();
        let _ = writeln!(table, "{}", costs.row());
        let _ = writeln!(table, "{}", limits.row(costs.our_wall_s()));
    }
    let name = "files".to_owned();
    let figures = json!({ "first": first.json(), "later": later.json(), "limits": limits.json() });
    Ok((Section { name, about, table }, figures))
}

fn size_name(size: u64) -> String {
    match size {
        s if s >= GB => format!("{} GB", megabytes(s) / 1e3),
        s => format!("{} MB", megabytes(s)),
    }
}

//! What a snapshot costs the hub meanwhile. A hub that commits a hundred times a second and answers a hundred
//! queries, as seen by itself; and from outside, how long a run holds a read transaction and how large the WAL
//! becomes.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::Result;
use crate::costs::{Spread, megabytes};
use crate::race::Race;

/// Between two commits, and between two queries.
const EVERY: Duration = Duration::from_millis(10);
/// Of the hub by itself.
const ALONE: Duration = Duration::from_secs(20);
const RUNS: u32 = 4;

/// When something began, and how many milliseconds it took.
type Sample = (Instant, f64);
type Samples = Vec<Sample>;

struct BusyHub {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<rusqlite::Result<Samples>>,
    reader: JoinHandle<rusqlite::Result<Samples>>,
}

impl BusyHub {
    fn start(database: &Path) -> Result<Self> {
        let open = || -> Result<Connection> {
            let db = Connection::open(database)?;
            db.busy_timeout(Duration::from_secs(60))?;
            Ok(db)
        };
        let (writer, reader) = (open()?, open()?);
        writer.execute_batch(
            "PRAGMA synchronous = NORMAL; PRAGMA wal_checkpoint(TRUNCATE);
             CREATE TABLE IF NOT EXISTS beats (n INTEGER PRIMARY KEY, pad TEXT)",
        )?;
        let sessions: Vec<String> = reader
            .prepare("SELECT id FROM sessions")?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut sessions = sessions.into_iter().cycle();
        let stop = Arc::new(AtomicBool::new(false));
        Ok(Self {
            writer: every(&stop, move || {
                writer.execute("INSERT INTO beats (pad) VALUES (hex(randomblob(400)))", [])?;
                Ok(())
            }),
            // A page of a conversation, as a browser asks for it.
            reader: every(&stop, move || {
                let session = sessions.next();
                let page =
                    "SELECT content FROM messages WHERE session_id = ? ORDER BY seq DESC LIMIT 50";
                let mut page = reader.prepare(page)?;
                let mut rows = page.query([session])?;
                while let Some(row) = rows.next()? {
                    row.get_ref(0)?;
                }
                Ok(())
            }),
            stop,
        })
    }

    /// Its commits and its queries.
    fn end(self) -> Result<[Samples; 2]> {
        self.stop.store(true, Ordering::SeqCst);
        let of = |thread: JoinHandle<rusqlite::Result<Samples>>| -> Result<Samples> {
            Ok(thread.join().map_err(|_| "the hub panicked")??)
        };
        Ok([of(self.writer)?, of(self.reader)?])
    }
}

fn every(
    stop: &Arc<AtomicBool>,
    mut work: impl FnMut() -> rusqlite::Result<()> + Send + 'static,
) -> JoinHandle<rusqlite::Result<Samples>> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut samples = Vec::new();
        let mut next = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            let begun = Instant::now();
            work()?;
            samples.push((begun, begun.elapsed().as_secs_f64() * 1e3));
            next += EVERY;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(samples)
    })
}

/// One run of ours beside the hub, from outside.
struct Watched {
    begun: Instant,
    /// While it held a read transaction: no checkpoint could write back what was committed after.
    pinned: (Instant, Instant),
    ended: Instant,
    /// Bytes of the WAL file: before, and at most during the run.
    wal: (u64, u64),
}

fn watch(race: &Race) -> Result<Watched> {
    let database = race.database();
    let beside = |end: &str| database.with_file_name(format!("hapi.db{end}"));
    let shm = fs::metadata(beside("-shm"))?.ino();
    let wal = || Ok::<_, std::io::Error>(fs::metadata(beside("-wal"))?.len());
    let before = wal()?;
    let mut most = before;
    let mut pinned: Option<(Instant, Instant)> = None;
    let begun = Instant::now();
    let mut run = race
        .ours(&["--no-progress", "-q", "snapshot"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let status = loop {
        if let Some(status) = run.try_wait()? {
            break status;
        }
        if holds_read_mark(shm, run.id())? {
            let now = Instant::now();
            pinned = Some((pinned.map_or(now, |(first, _)| first), now));
        }
        most = most.max(wal()?);
        thread::sleep(Duration::from_millis(2));
    };
    if !status.success() {
        return Err(format!("a snapshot beside a busy hub: {status}").into());
    }
    Ok(Watched {
        begun,
        pinned: pinned.ok_or("no read transaction was seen")?,
        ended: Instant::now(),
        wal: (before, most),
    })
}

/// Whether this process reads the database: it then holds one of the locks `WAL_READ_LOCK(0)` to `(4)`, bytes 123
/// to 127 of the `-shm` file (<https://sqlite.org/walformat.html>).
fn holds_read_mark(shm: u64, pid: u32) -> Result<bool> {
    let (pid, inode) = (pid.to_string(), format!(":{shm}"));
    Ok(fs::read_to_string("/proc/locks")?.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields[..], [_, "POSIX", _, "READ", owner, file, first, _]
            if owner == pid && file.ends_with(&inode)
                && first.parse().is_ok_and(|byte: u32| (123..=127).contains(&byte)))
    }))
}

/// A table for the reader, and the figures behind it.
pub fn course(race: &Race) -> Result<(String, Value)> {
    let alone = BusyHub::start(&race.database())?;
    thread::sleep(ALONE);
    let alone = alone.end()?;

    let hub = BusyHub::start(&race.database())?;
    let runs = (0..RUNS)
        .map(|_| watch(race))
        .collect::<Result<Vec<Watched>>>()?;
    let during = hub.end()?;
    let within = |samples: &Samples, phase: &dyn Fn(&Watched, Instant) -> bool| -> Vec<f64> {
        let hit = |(at, _): &&Sample| runs.iter().any(|run| phase(run, *at));
        samples.iter().filter(hit).map(|(_, took)| *took).collect()
    };
    let pinned = |run: &Watched, at: Instant| (run.pinned.0..=run.pinned.1).contains(&at);
    let rest =
        |run: &Watched, at: Instant| (run.begun..=run.ended).contains(&at) && !pinned(run, at);

    let mut table = "| ms | by itself | while the database is pinned | in the rest of a run |\n|---|---|---|---|\n".to_owned();
    let mut figures = serde_json::Map::new();
    for (what, alone, during) in [
        ("a commit", &alone[0], &during[0]),
        ("a query", &alone[1], &during[1]),
    ] {
        let phases = [
            alone.iter().map(|(_, took)| *took).collect(),
            within(during, &pinned),
            within(during, &rest),
        ]
        .map(sorted);
        for (name, share) in [("median", 0.5), ("99th percentile", 0.99), ("longest", 1.0)] {
            let _ = write!(table, "| {what}, {name} ");
            for phase in &phases {
                let _ = write!(table, "| {:.2} ", quantile(phase, share));
            }
            table += "|\n";
        }
        let figure = |phase: &Vec<f64>| json!({ "p50": quantile(phase, 0.5), "p99": quantile(phase, 0.99), "max": quantile(phase, 1.0), "n": phase.len() });
        figures.insert(what.to_owned(), phases.iter().map(figure).collect());
    }
    let gigabytes = megabytes(race.hub.size()?) / 1e3;
    let held = runs
        .iter()
        .map(|run| (run.pinned.1 - run.pinned.0).as_secs_f64() / gigabytes);
    let held = Spread::of(held);
    let of_wal = |size: fn(&Watched) -> u64| megabytes(runs.iter().map(size).max().unwrap_or(0));
    let (before, most) = (of_wal(|run| run.wal.0), of_wal(|run| run.wal.1));
    let _ = write!(
        table,
        "\nA run holds a read transaction for {} s a GB. Under a hub that commits 100 times a second and answers as many queries \
         the WAL grows from {before:.1} to {most:.1} MB. ",
        held.show(),
    );
    table += match backup_ends(race)? {
        true => "`sqlite3 .backup` came to its end beside it, too.",
        false => {
            "`sqlite3 .backup` had not come to an end beside it after a minute: each commit has it start over."
        }
    };
    figures.insert("pinned-s-a-gb".to_owned(), held.json());
    figures.insert("wal-mb".to_owned(), json!([before, most]));
    Ok((table, figures.into()))
}

/// Of restic there is nothing to measure where each commit of another process has `.backup` start over.
fn backup_ends(race: &Race) -> Result<bool> {
    let hub = BusyHub::start(&race.database())?;
    let mut backup: Command = race.shell(
        "timeout 60 sqlite3 home/.hapi/hapi.db '.backup copy-of'; e=$?; rm -f copy-of*; exit $e",
    );
    let ended = backup.stderr(Stdio::null()).status()?.success();
    hub.end()?;
    Ok(ended)
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// What this share of sorted values does not exceed.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of some thousand"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let nth = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(nth.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

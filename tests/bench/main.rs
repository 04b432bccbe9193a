//! The benchmark: rustic-hapi beside `sqlite3 .backup` and `restic backup`, and `rustic backup` where that is
//! on the PATH, on the same databases, in one run. `just bench`, or
//!
//! ```text
//! cargo bench -p rustic-hapi --bench bench -- [--size 1GB] [--shape plain|search|both]
//!     [--rounds 5] [--integrity full|quick] [--server] [--rate 10MB] [--link] [--all]
//!     [--days 60 | --files | --growing] [--keep] [--json FILE]
//! ```
//!
//! Whole processes are measured: wall time here, processor time and peak memory by GNU time, growth
//! as the bytes in the repository's folder. All programs find the same state, in changing
//! order; between the rounds the hub, which stays open as a real one does, adds half a day's
//! messages one commit at a time. Nothing is asserted: what counts are the ratios, and those
//! depend on the machine too.
//!
//! `--all` adds what is not of every day: nothing changed, every row rewritten, `VACUUM`, and what a busy
//! hub feels of a run. `--days` simulates so many days of two runs and compares the last week with the first.
//! `--files` is WAV and Markdown. `--growing` is rustic-hapi alone, from 10 MB to 4 GB.
//!
//! With five rounds or more the outcome is written into docs/performance.md.
//!
//! With `--server` all write to one `rclone serve restic` on loopback; with `--rate` that lets so much
//! through a second. With `--link` all reach one sshd over 50 ms of round trip and 100 Mbit/s, which a relay in
//! this process makes of loopback: `just bench --link --shape plain --size 100MB --rounds 3`.
//!
//! It needs `sqlite3`, `restic`, `rclone` and GNU `time`. Data lie below `$BENCH_DIR`, or `target/bench`
//! (`BENCH_DIR=/dev/shm/bench` has them in memory, where only work counts), and are removed; `--keep` leaves the generated databases there for the next run. Remove them after
//! a change to the generator.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table for whoever waits for it"
)]

mod busy_hub;
mod costs;
mod courses;
mod limits;
mod link;
mod page;
mod race;
mod server;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hapi_sources::IntegrityCheck;
use rustic_hapi::synthetic::Shape;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SEED: u64 = 20_250_101;
const GB: u64 = 1_000_000_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        // `cargo test --all-targets` runs benchmarks as well, and this one takes minutes.
        println!("nothing to test: run this with `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match Options::parse(&args).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let mut outcomes = Vec::new();
    match options.course {
        Course::Files => outcomes.push(courses::files(options)?),
        course => {
            for &shape in &options.shapes {
                let size = options.size.unwrap_or(match shape {
                    Shape::Plain => GB,
                    Shape::Search => 6 * GB / 10,
                });
                outcomes.push(match course {
                    Course::Days(days) => courses::days(options, shape, days)?,
                    Course::Growing => courses::sizes(options, shape)?,
                    _ => courses::side_by_side(options, shape, size)?,
                });
            }
        }
    }
    let (sections, figures): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&Value::from(figures))?)?;
    }
    if options.rounds < ROUNDS {
        println!("too few rounds for docs/performance.md, which is as it was");
        return Ok(());
    }
    page::write(&sections)
}

/// Fewer are a trial.
const ROUNDS: u32 = 5;

/// What is run.
#[derive(Clone, Copy)]
enum Course {
    SideBySide,
    Days(u32),
    Files,
    Growing,
}

/// Where the repositories are.
#[derive(Clone, Copy)]
enum Way {
    Disk,
    /// Over a server, and how many bytes a second it lets through.
    Rest(Option<u64>),
    /// Over a long way.
    Link,
}

/// What the command line asked for.
struct Options {
    size: Option<u64>,
    shapes: Vec<Shape>,
    rounds: u32,
    /// Which of SQLite's checks our own runs include.
    integrity: IntegrityCheck,
    way: Way,
    /// What is not of every day, too.
    all: bool,
    course: Course,
    keep: bool,
    json: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            size: None,
            shapes: Vec::new(),
            rounds: ROUNDS,
            integrity: IntegrityCheck::Full,
            way: Way::Disk,
            all: false,
            course: Course::SideBySide,
            keep: false,
            json: None,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("`{arg}` needs a value"));
            match arg.as_str() {
                "--bench" => {}
                "--size" => options.size = Some(parse_size(value()?)?),
                "--shape" => {
                    options.shapes = match value()?.as_str() {
                        "plain" => vec![Shape::Plain],
                        "search" => vec![Shape::Search],
                        "both" => vec![Shape::Plain, Shape::Search],
                        other => return Err(format!("no such shape: `{other}`").into()),
                    }
                }
                "--rounds" => options.rounds = value()?.parse()?,
                "--integrity" => {
                    options.integrity = serde_json::from_value(value()?.as_str().into())?
                }
                "--server" if matches!(options.way, Way::Rest(_)) => {}
                "--server" => options.way = Way::Rest(None),
                "--rate" => options.way = Way::Rest(Some(parse_size(value()?)?)),
                "--link" => options.way = Way::Link,
                "--all" => options.all = true,
                "--days" => match value()?.parse()? {
                    days if days >= 14 => options.course = Course::Days(days),
                    _ => return Err("`--days` must be at least 14".into()),
                },
                "--files" => options.course = Course::Files,
                "--growing" => options.course = Course::Growing,
                "--keep" => options.keep = true,
                "--json" => options.json = Some(from_workspace(value()?)),
                other => return Err(format!("no such option: `{other}`").into()),
            }
        }
        if options.rounds == 0 {
            return Err("`--rounds` must be at least 1".into());
        }
        if options.shapes.is_empty() {
            options.shapes = match options.course {
                Course::SideBySide => vec![Shape::Plain, Shape::Search],
                _ => vec![Shape::Plain],
            };
        }
        Ok(options)
    }
}

/// Cargo runs benchmarks in the package's folder, but what is typed is typed in the workspace's.
fn from_workspace(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn parse_size(text: &str) -> Result<u64> {
    let (number, unit) = match text.strip_suffix("GB") {
        Some(number) => (number, GB),
        None => (
            text.strip_suffix("MB")
                .ok_or("a size is like 100MB or 4GB")?,
            GB / 1_000,
        ),
    };
    Ok(number.parse::<u64>()? * unit)
}

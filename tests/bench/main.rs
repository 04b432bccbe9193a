//! The benchmark: rustic-hapi beside `sqlite3 .backup` and `restic backup`, on the same databases,
//! in one run. `just bench`, or
//!
//! ```text
//! cargo bench -p rustic-hapi --bench bench -- [--size 1GB] [--shape plain|search|both]
//!     [--rounds 5] [--integrity full|quick] [--server] [--rate 10MB] [--all] [--days 60]
//!     [--files] [--memory] [--keep] [--json FILE]
//! ```
//!
//! Whole processes are measured: wall time here, processor time and peak memory by GNU time, growth
//! as the bytes in the repository's folder. Both programs find the same state, in alternating
//! order; between the rounds the hub, which stays open as a real one does, adds half a day's
//! messages one commit at a time. Nothing is asserted: what counts are the ratios, and those
//! depend on the machine too.
//!
//! `--all` adds what is not of every day: nothing changed, every row rewritten, `VACUUM`, how a writer
//! feels a snapshot, and what copying, hashing and compressing cost by themselves. `--days` simulates so
//! many days of two runs and compares the last week with the first. `--files` is WAV and Markdown.
//!
//! With `--server` both write to one `rclone serve restic` on loopback; with `--rate` that lets so much
//! through a second.
//!
//! It needs `sqlite3`, `restic`, `rclone` and GNU `time`. Data lie below `$BENCH_DIR`, or `target/bench`, and
//! are removed; `--keep` leaves the generated databases there for the next run. Remove them after
//! a change to the generator.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table for whoever waits for it"
)]

mod limits;
mod writer;

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hapi_sources::IntegrityCheck;
use rustic_hapi::synthetic::{Hub, Shape, write_notes, write_wav};
use serde_json::{Value, json};

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
    let mut results = Vec::new();
    if options.files {
        results.push(files(options)?);
    }
    for &shape in &options.shapes {
        if options.files {
            break;
        }
        if let Some(days) = options.days {
            let size = options.size.unwrap_or(GB / 100);
            results.push(Race::prepare(options, shape, size)?.days(days)?);
        } else if options.memory {
            for size in options.size.map_or(vec![GB, 4 * GB], |size| vec![size]) {
                results.push(Race::prepare(options, shape, size)?.memory()?);
            }
        } else {
            let size = options.size.unwrap_or(match shape {
                Shape::Plain => GB,
                Shape::Search => 6 * GB / 10,
            });
            let race = Race::prepare(options, shape, size)?;
            results.push(race.side_by_side(options.rounds, options.all)?);
        }
    }
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&Value::from(results))?)?;
    }
    Ok(())
}

/// What the command line asked for.
struct Options {
    size: Option<u64>,
    shapes: Vec<Shape>,
    rounds: u32,
    /// Which of SQLite's checks our own runs include.
    integrity: IntegrityCheck,
    /// Over a server, and how many bytes a second it lets through.
    server: Option<Option<u64>>,
    memory: bool,
    /// What is not of every day, too.
    all: bool,
    days: Option<u32>,
    files: bool,
    keep: bool,
    json: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self {
            size: None,
            shapes: Vec::new(),
            rounds: 5,
            integrity: IntegrityCheck::Full,
            server: None,
            memory: false,
            all: false,
            days: None,
            files: false,
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
                "--server" => options.server = options.server.or(Some(None)),
                "--rate" => options.server = Some(Some(parse_size(value()?)?)),
                "--memory" => options.memory = true,
                "--all" => options.all = true,
                "--days" => options.days = Some(value()?.parse()?),
                "--files" => options.files = true,
                "--keep" => options.keep = true,
                "--json" => options.json = Some(from_workspace(value()?)),
                other => return Err(format!("no such option: `{other}`").into()),
            }
        }
        if options.rounds == 0 {
            return Err("`--rounds` must be at least 1".into());
        }
        if options.shapes.is_empty() {
            options.shapes = match options.memory || options.days.is_some() {
                true => vec![Shape::Plain],
                false => vec![Shape::Plain, Shape::Search],
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

/// Who is measured.
#[derive(Clone, Copy)]
enum Contender {
    RusticHapi,
    BackupAndRestic,
}

use Contender::{BackupAndRestic, RusticHapi};

/// What is measured.
#[derive(Clone, Copy)]
enum Work {
    Snapshot,
    /// Everything of the newest snapshot, compared with what it should be.
    Restore,
}

/// A home with a hub, and a repository for each contender.
struct Race {
    shape: Shape,
    hub: Hub,
    /// Before the folder that it serves.
    server: Option<Server>,
    /// What restic takes besides the database.
    more: &'static str,
    /// Removed with everything in it at the end.
    dir: tempfile::TempDir,
}

/// Changes that are not of every day.
const SELDOM: [(&str, &str); 3] = [
    ("same", "SELECT 1"),
    ("migrate", "UPDATE messages SET seq = seq + 1"),
    ("vacuum", "VACUUM"),
];

/// What one run cost.
struct Cost {
    wall_s: f64,
    cpu_s: f64,
    peak_mib: f64,
    growth_mb: f64,
}

impl Race {
    fn prepare(options: &Options, shape: Shape, size: u64) -> Result<Self> {
        let root = std::env::var_os("BENCH_DIR").map_or_else(
            || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench"),
            from_workspace,
        );
        fs::create_dir_all(&root)?;
        let root = root.canonicalize()?;
        let base = generated(&root, shape, size)?;
        let dir = tempfile::Builder::new().prefix("race-").tempdir_in(&root)?;
        for folder in ["home/.hapi", "ours", "theirs"] {
            fs::create_dir_all(dir.path().join(folder))?;
        }
        let database = dir.path().join("home/.hapi/hapi.db");
        match options.keep {
            true => fs::copy(&base, &database).map(drop)?,
            false => fs::rename(&base, &database)?,
        }
        let race = Self {
            shape,
            hub: Hub::open(&database, shape, SEED)?,
            server: options
                .server
                .map(|rate| Server::start(dir.path(), rate))
                .transpose()?,
            more: "",
            dir,
        };
        race.init(options.integrity)?;
        Ok(race)
    }

    /// Makes the two repositories, each with the program that will use it.
    fn init(&self, integrity: IntegrityCheck) -> Result<()> {
        let integrity = serde_json::to_value(integrity)?;
        let dir = self.dir.path().display();
        let location = self.location(RusticHapi);
        let password = self.dir.path().join("password");
        fs::write(&password, "correct horse battery staple\n")?;
        fs::set_permissions(&password, Permissions::from_mode(0o600))?;
        let profile = format!(
            r#"hapi-home = "{dir}/home/.hapi"
staging = "{dir}/ours/staging"

[repository]
location = "{location}"
password-file = "{dir}/password"
# Both contenders write to the disk that they read from.
allow-same-disk = true

[[series]]
name = "hapi"

[[source]]
name = "hapi.db"
path = "$HAPI_HOME/hapi.db"
kind = "sqlite"
count = ["sessions", "messages"]
newest = ["messages.created_at"]
integrity = {integrity}
"#
        );
        fs::write(self.dir.path().join("profile.toml"), profile)?;
        self.finish(self.ours(&["init"]))?;
        self.finish(self.shell("restic init --quiet --repository-version 2"))
    }

    /// Where a contender's repository is.
    fn location(&self, contender: Contender) -> String {
        let name = match contender {
            RusticHapi => "ours",
            BackupAndRestic => "theirs",
        };
        match &self.server {
            Some(server) => format!("rest:http://127.0.0.1:{}/{name}/repo/", server.port),
            None => format!("{}/{name}/repo", self.dir.path().display()),
        }
    }

    /// The first snapshot, then one after each half day's use.
    fn side_by_side(mut self, rounds: u32, all: bool) -> Result<Value> {
        println!("\n{}, {rounds} rounds", self.describe()?);
        let mut first = [Vec::new(), Vec::new()];
        first[0].push(self.measure(RusticHapi, Work::Snapshot)?);
        first[1].push(self.measure(BackupAndRestic, Work::Snapshot)?);
        let mut later = [Vec::new(), Vec::new()];
        let mut restore = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            self.half_a_day()?;
            let in_order = match round % 2 {
                0 => [RusticHapi, BackupAndRestic],
                _ => [BackupAndRestic, RusticHapi],
            };
            for one in in_order {
                later[one as usize].push(self.measure(one, Work::Snapshot)?);
            }
            // A gigabyte at so many a second says how slow the link is.
            if self.server.as_ref().is_none_or(|server| !server.slow) {
                for one in in_order {
                    restore[one as usize].push(self.measure(one, Work::Restore)?);
                }
            }
            eprintln!("round {} of {rounds} done", round + 1);
        }
        println!(
            "{:<20}{:>26}{:>26}{:>24}",
            "", "rustic-hapi", ".backup + restic", "ratio"
        );
        let firsts = report("first", &first);
        let laters = report("later", &later);
        let restores = report("restore", &restore);
        let grown = |nth: usize| -> f64 {
            let all = first[nth].iter().chain(&later[nth]);
            all.map(|cost| cost.growth_mb).sum()
        };
        let total = grown(0) / grown(1);
        println!(
            "total   growth of all {} snapshots: ratio {total:.3}",
            rounds + 1
        );
        let mut seldom = serde_json::Map::new();
        if all {
            for (name, sql) in SELDOM {
                let costs = self.after(sql, rounds.min(3))?;
                seldom.insert(name.to_owned(), report(name, &costs));
            }
            seldom.insert("writer".to_owned(), self.as_a_writer_feels_it()?);
            let limits = limits::measure(&self.database(), self.dir.path())?;
            seldom.insert("limits".to_owned(), limits);
        }
        Ok(json!({
            "shape": self.name(),
            "total-growth-ratio": total,
            "seldom": seldom,
            "server": self.server.as_ref().map(|server| &server.name),
            "bytes": self.hub.size()?,
            "messages": self.hub.messages(),
            "first": firsts,
            "later": laters,
            "restore": restores,
        }))
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("home/.hapi/hapi.db")
    }

    /// Snapshots of both, in turns, each after the same change.
    fn after(&self, sql: &str, rounds: u32) -> Result<[Vec<Cost>; 2]> {
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            let change = format!("sqlite3 home/.hapi/hapi.db \"{sql}\"");
            self.finish(self.shell(&change))?;
            let mut in_order = [RusticHapi, BackupAndRestic];
            if round % 2 == 1 {
                in_order.reverse();
            }
            for one in in_order {
                costs[one as usize].push(self.measure(one, Work::Snapshot)?);
            }
        }
        Ok(costs)
    }

    /// The 99th percentile of a writer's commits, without a snapshot and during some.
    fn as_a_writer_feels_it(&self) -> Result<Value> {
        let mut p99 = Vec::new();
        for who in [None, Some(RusticHapi), Some(BackupAndRestic)] {
            let writer = writer::Writer::start(&self.database())?;
            match who {
                None => thread::sleep(Duration::from_secs(20)),
                Some(one) => {
                    for _ in 0..3 {
                        self.measure(one, Work::Snapshot)?;
                    }
                }
            }
            p99.push(writer::p99(&writer.end()?));
        }
        println!(
            "writer  99th percentile of commits: alone {:.2} ms, during ours {:.2} ms ({:.2}), during theirs {:.2} ms ({:.2})",
            p99[0],
            p99[1],
            p99[1] / p99[0],
            p99[2],
            p99[2] / p99[0]
        );
        Ok(json!({ "alone-ms": p99[0], "ours-ms": p99[1], "theirs-ms": p99[2] }))
    }

    /// Two runs a day under `faketime`: what a run and `status` take in the first week and in the last.
    fn days(mut self, days: u32) -> Result<Value> {
        println!("\n{}, {days} days", self.describe()?);
        let mut runs = Vec::new();
        let mut statuses = Vec::new();
        for slot in 0..days * 2 {
            self.half_a_day()?;
            let hours = format!("+{}h", slot * 12);
            for (args, took) in [
                (["-q", "snapshot"], &mut runs),
                (["-q", "status"], &mut statuses),
            ] {
                let ours = self.ours(&args);
                let mut command = Command::new("faketime");
                command.args(["-f", &hours]).arg(ours.get_program());
                command.args(ours.get_args());
                self.settle(&mut command);
                let start = Instant::now();
                self.finish(command)?;
                took.push(start.elapsed().as_secs_f64());
            }
        }
        let compare = |name: &str, took: &[f64]| -> Value {
            let first = Spread::of(took.iter().take(14).copied());
            let last = Spread::of(took.iter().rev().take(14).copied());
            let ratio = last.median() / first.median();
            println!(
                "{name:<8}first week {} s, last week {} s, ratio {ratio:.2}",
                first.show(),
                last.show()
            );
            json!({ "first-week": first.json(), "last-week": last.json(), "ratio": ratio })
        };
        let (run, status) = (compare("run", &runs), compare("status", &statuses));
        Ok(json!({ "shape": self.name(), "days": days, "run": run, "status": status }))
    }

    /// Peak memory of rustic-hapi alone: the first snapshot, one after half a day's use, and a
    /// restore.
    fn memory(mut self) -> Result<Value> {
        println!("\n{}", self.describe()?);
        let first = self.measure(RusticHapi, Work::Snapshot)?.peak_mib;
        self.half_a_day()?;
        let later = self.measure(RusticHapi, Work::Snapshot)?.peak_mib;
        let restore = self.measure(RusticHapi, Work::Restore)?.peak_mib;
        println!(
            "peak memory: first snapshot {first:.0} MiB, later {later:.0} MiB, restore {restore:.0} MiB"
        );
        Ok(json!({
            "shape": self.name(),
            "bytes": self.hub.size()?,
            "first-peak-mib": first,
            "later-peak-mib": later,
            "restore-peak-mib": restore,
        }))
    }

    fn half_a_day(&mut self) -> rusqlite::Result<()> {
        self.hub.add_messages(self.shape.half_day(), 1)
    }

    fn describe(&self) -> Result<String> {
        Ok(format!(
            "{} shape: {:.2} GB, {} messages, +{} between snapshots",
            self.name(),
            megabytes(self.hub.size()?) / 1e3,
            self.hub.messages(),
            self.shape.half_day(),
        ) + match &self.server {
            Some(server) => server.name.as_str(),
            None => "",
        })
    }

    fn name(&self) -> &'static str {
        shape_name(self.shape)
    }

    fn measure(&self, contender: Contender, work: Work) -> Result<Cost> {
        let rusage = self.dir.path().join("rusage");
        let command = match (contender, work) {
            (RusticHapi, Work::Snapshot) => self.ours(&["--no-progress", "-q", "snapshot"]),
            (RusticHapi, Work::Restore) => {
                self.ours(&["--no-progress", "-q", "restore", "--target", "restored"])
            }
            // The staged copy is always of the same name, so that restic finds its parent
            // snapshot, and is removed in the end, as rustic-hapi removes its own.
            (BackupAndRestic, Work::Snapshot) => self.shell(
                "sqlite3 home/.hapi/hapi.db \".backup theirs/hapi.db\" && \
                 restic backup --quiet theirs/hapi.db MORE && rm theirs/hapi.db"
                    .replace("MORE", self.more)
                    .as_str(),
            ),
            (BackupAndRestic, Work::Restore) => {
                self.shell("restic restore --quiet latest --verify --target restored")
            }
        };
        let repository = self.dir.path().join(match contender {
            RusticHapi => "ours/repo",
            BackupAndRestic => "theirs/repo",
        });
        let mut timed = Command::new("time");
        timed.args(["--quiet", "-f", "%U %S %M", "-o"]).arg(&rusage);
        timed.arg(command.get_program()).args(command.get_args());
        self.settle(&mut timed);
        if let BackupAndRestic = contender {
            self.tell_restic(&mut timed);
        }

        // What others have written is on disk before the clock starts.
        rustix::fs::sync();
        let before = bytes_below(&repository)?;
        let start = Instant::now();
        self.finish(timed)?;
        let wall_s = start.elapsed().as_secs_f64();
        if let Work::Restore = work {
            let restored = self.dir.path().join("restored");
            if bytes_below(&restored)? < self.hub.size()? / 2 {
                return Err("the restore brought nothing".into());
            }
            fs::remove_dir_all(restored)?;
        }

        let rusage = fs::read_to_string(rusage)?;
        let mut numbers = rusage.split_whitespace().map(str::parse::<f64>);
        let mut next = || {
            numbers
                .next()
                .ok_or("`time` wrote less than it was told to")
        };
        Ok(Cost {
            wall_s,
            cpu_s: next()?? + next()??,
            peak_mib: next()?? / 1024.0,
            growth_mb: megabytes(bytes_below(&repository)? - before),
        })
    }

    fn ours(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustic-hapi"));
        command
            .arg("--profile")
            .arg(self.dir.path().join("profile.toml"))
            .args(args);
        self.settle(&mut command);
        command
    }

    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        self.settle(&mut command);
        self.tell_restic(&mut command);
        command
    }

    /// Gives a command a home below our folder, and nothing of the caller's environment: neither a
    /// profile nor a cache of the user's may take part.
    fn settle(&self, command: &mut Command) {
        let dir = self.dir.path();
        command
            .current_dir(dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", dir.join("home"))
            .env("TMPDIR", dir)
            .env("XDG_CONFIG_HOME", dir.join("config"))
            .env("XDG_STATE_HOME", dir.join("state"))
            .env("XDG_CACHE_HOME", dir.join("cache"));
    }

    fn tell_restic(&self, command: &mut Command) {
        let dir = self.dir.path();
        command
            .env("RESTIC_REPOSITORY", self.location(BackupAndRestic))
            .env("RESTIC_PASSWORD_FILE", dir.join("password"))
            .env("RESTIC_CACHE_DIR", dir.join("theirs/cache"));
    }

    /// Runs a command to its end; its output is of interest only when it fails.
    fn finish(&self, mut command: Command) -> Result<()> {
        let output = command.stdin(Stdio::null()).output().map_err(|error| {
            format!("cannot run `{}`: {error}", command.get_program().display())
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(format!(
            "{}\n{command:?}\n{}",
            output.status,
            String::from_utf8_lossy(&said)
        )
        .into())
    }
}

/// `rclone serve restic` on loopback, ended with the value.
struct Server {
    child: Child,
    port: u16,
    name: String,
    slow: bool,
}

impl Server {
    fn start(folder: &Path, rate: Option<u64>) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut command = Command::new("rclone");
        command
            .args(["serve", "restic", "--addr", &format!("127.0.0.1:{port}")])
            .env("RCLONE_CONFIG", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut name = ", over REST on loopback".to_owned();
        if let Some(rate) = rate {
            // Its `b` is bytes.
            command.args(["--bwlimit", &format!("{rate}b")]);
            let _ = write!(name, " at {} MB/s", megabytes(rate));
        }
        let child = command.arg(folder).spawn()?;
        let slow = rate.is_some();
        let server = Self {
            child,
            port,
            name,
            slow,
        };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("`rclone serve restic` does not listen".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its process id; one that is gone is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A database of this shape and size, from an earlier run or made now.
fn generated(root: &Path, shape: Shape, size: u64) -> Result<PathBuf> {
    let base = root.join(format!(
        "base-{}-{}MB.db",
        shape_name(shape),
        size / 1_000_000
    ));
    if base.exists() {
        return Ok(base);
    }
    eprintln!("generating {}", base.display());
    let scratch = tempfile::tempdir_in(root)?;
    let unfinished = scratch.path().join("hapi.db");
    let mut hub = Hub::create(&unfinished, shape, SEED)?;
    while hub.size()? < size {
        hub.add_messages(1_000, 1_000)?;
    }
    // Closing the last connection writes the WAL back, so that one file is all of it.
    drop(hub);
    fs::rename(&unfinished, &base)?;
    Ok(base)
}

/// Prints a row for each measure, and returns the same as JSON.
fn report(work: &str, costs: &[Vec<Cost>; 2]) -> Value {
    type Measure = (&'static str, fn(&Cost) -> f64);
    const MEASURES: [Measure; 4] = [
        ("wall s", |cost| cost.wall_s),
        ("cpu s", |cost| cost.cpu_s),
        ("peak MiB", |cost| cost.peak_mib),
        ("growth MB", |cost| cost.growth_mb),
    ];
    let mut rows = serde_json::Map::new();
    for (name, of) in MEASURES {
        // A restore adds nothing to a repository.
        if costs[1].iter().all(|cost| of(cost) == 0.0) {
            continue;
        }
        let ours = Spread::of(costs[0].iter().map(of));
        let theirs = Spread::of(costs[1].iter().map(of));
        // Of each round, so that what slowed both down is in none.
        let pairs = costs[0].iter().zip(&costs[1]);
        let ratio = Spread::of(pairs.map(|(ours, theirs)| of(ours) / of(theirs)));
        println!(
            "{work:<8}{name:<12}{:>26}{:>26}{:>24}",
            ours.show(),
            theirs.show(),
            ratio.show()
        );
        rows.insert(
            name.replace(' ', "-").to_lowercase(),
            json!({ "ours": ours.json(), "theirs": theirs.json(), "ratio": ratio.json() }),
        );
    }
    Value::Object(rows)
}

/// The values of one measure over all rounds, sorted.
struct Spread(Vec<f64>);

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn median(&self) -> f64 {
        let half = self.0.len() / 2;
        match self.0.len() % 2 {
            0 => f64::midpoint(self.0[half - 1], self.0[half]),
            _ => self.0[half],
        }
    }

    fn ends(&self) -> (f64, f64) {
        (self.0[0], self.0[self.0.len() - 1])
    }

    /// The median, and the smallest and largest if there are several.
    fn show(&self) -> String {
        let digits = if self.median() < 100.0 { 2 } else { 0 };
        let mut text = format!("{:.digits$}", self.median());
        if self.0.len() > 1 {
            let (least, most) = self.ends();
            // Writing to a string cannot fail.
            let _ = write!(text, " ({least:.digits$}..{most:.digits$})");
        }
        text
    }

    fn json(&self) -> Value {
        let (min, max) = self.ends();
        json!({ "median": self.median(), "min": min, "max": max })
    }
}

fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Plain => "plain",
        Shape::Search => "search",
    }
}

fn megabytes(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact up to 9 PB")]
    let bytes = bytes as f64;
    bytes / 1e6
}

/// What the files below a folder hold, in bytes.
fn bytes_below(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        sum += match entry.file_type()?.is_dir() {
            true => bytes_below(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(sum)
}

/// 500 MB of WAV and 5,000 small notes, as a folder each: a first snapshot and one after a tenth of the
/// notes changed, against `restic backup` of the same folders.
fn files(options: &Options) -> Result<Value> {
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
    println!("\n500 MB of WAV, 5,000 notes, {} rounds", options.rounds);
    println!(
        "{:<20}{:>26}{:>26}{:>24}",
        "", "rustic-hapi", ".backup + restic", "ratio"
    );
    let mut first = [Vec::new(), Vec::new()];
    for one in [RusticHapi, BackupAndRestic] {
        first[one as usize].push(race.measure(one, Work::Snapshot)?);
    }
    let mut later = [Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        for nth in 0..500 {
            let note = fs::read_dir(&notes)?
                .nth(nth * 10)
                .ok_or("a note is missing")??;
            fs::write(note.path(), format!("# {round}\n"))?;
        }
        for one in [RusticHapi, BackupAndRestic] {
            later[one as usize].push(race.measure(one, Work::Snapshot)?);
        }
    }
    Ok(json!({ "first": report("first", &first), "later": report("later", &later) }))
}

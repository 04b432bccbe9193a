//! The demo is a throwaway hub with a live writer, backed up, aged and restored before your eyes.
//! It needs nothing, touches nothing of yours, and is the README's first command.
//!
//! Knows: everything. Must not be known.

pub mod synthetic;
mod writer;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret;
use chrono::{DateTime, Local, TimeDelta};
use hapi_sources::Stop;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::commands::context::Context;
use crate::commands::snapshot::{self, Request};
use crate::commands::{drill, init, restore};
use crate::demo::writer::Writer;
use crate::error::Error;
use crate::machine::process::tell;
use crate::profile::Profile;
use crate::profile::lookup::{Environment, Lookup};
use crate::repository::Repository;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::ui::Ui;
use crate::words::{bytes, grouped};

/// Simulated days of one run each, enough for retention to have something to remove.
const DAYS: i64 = 20;

/// Runs the demo; everything lies in one new temporary folder, which stays only if `keep`.
///
/// # Errors
/// Whatever fails: the demo is a test of the machine, too.
pub fn run(keep: bool, stop: &Stop) -> Result<Output, Error> {
    let started = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("rustic-hapi-demo-")
        .tempdir()
        .map_err(Error::at(&std::env::temp_dir()))?;
    let demo = Demo {
        folder: folder.path().to_path_buf(),
        stop: stop.clone(),
    };
    let result = demo.play();
    let kept = if keep { Some(folder.keep()) } else { None };
    let facts = result?;
    if let Some(path) = &kept {
        say(format_args!("\nkept: {}", path.display()));
        say(format_args!(
            "  eval \"$(rustic-hapi --profile {0}/hapi.toml --home {0}/home env)\"; restic snapshots",
            path.display()
        ));
    } else {
        say("\neverything was removed again (--keep leaves it there)");
    }
    say(format_args!(
        "done in {:.1} s",
        started.elapsed().as_secs_f32()
    ));
    Ok(Output::new(
        String::new(),
        json!({
            "version": JSON_VERSION, "command": "demo", "kept": kept,
            "sessions": facts.sessions, "messages": facts.messages,
            "messages-by-cp": facts.messages_by_cp, "snapshots": facts.snapshots,
        }),
    ))
}

struct Demo {
    folder: PathBuf,
    stop: Stop,
}

struct Facts {
    sessions: u64,
    messages: u64,
    messages_by_cp: Option<u64>,
    snapshots: usize,
}

impl Demo {
    fn play(&self) -> Result<Facts, Error> {
        let home = self.folder.join("home");
        let database = home.join(".hapi/hapi.db");
        title("A hub with a live writer");
        let recipient = self.furnish(&home).map_err(|error| self.at(&home, error))?;
        let begin = Local::now() - TimeDelta::days(DAYS);
        let clock = Arc::new(AtomicI64::new(begin.timestamp_millis()));
        let writer = Writer::start(&database, &clock).map_err(|e| self.sqlite(&database, &e))?;
        writer.wait_for(200);
        say(format_args!(
            "  {} is written to without a pause",
            database.display()
        ));

        title("Why `cp` is not a backup");
        let messages_by_cp = self.copy_like_cp(&database)?;
        let real = count(&database, "messages").map_err(|e| self.sqlite(&database, &e))?;
        match messages_by_cp {
            Some(n) => say(format_args!(
                "  cp of hapi.db: {n} of {real} messages; the others are in hapi.db-wal"
            )),
            None => say(format_args!(
                "  cp of hapi.db: not even a table `messages`; all {real} are in hapi.db-wal"
            )),
        }

        title("rustic-hapi init");
        let lookup = Lookup {
            profile: Some(self.folder.join("hapi.toml").to_string_lossy().into_owned()),
            home: Some(home.clone()),
            repository: Some(
                self.folder
                    .join("repository")
                    .to_string_lossy()
                    .into_owned(),
            ),
            password_file: Some(self.folder.join("password")),
            from: None,
            env: Environment::default(),
        };
        let request = init::Request {
            recipients_files: Vec::new(),
            recipients: vec![recipient],
            extends: Some("hapi".into()),
            hapi_home: Some(home.join(".hapi")),
            host: None,
            adopt: None,
            with_agents: false,
            allow_same_disk: true,
            environment_file: None,
            consent: crate::terminal::prompt::Consent::Nobody,
            lock_wait: std::time::Duration::ZERO,
            recovery_key: None,
        };
        let made = init::run(&lookup, &request, &self.stop)?;
        say(format_args!(
            "  repository {} at {}",
            &made.repository_id[..8],
            made.location
        ));
        let profile = Profile::load(&lookup)?;

        title("Three snapshots while it writes");
        // Both the writer and the runs go by one clock.
        let at = |time: DateTime<Local>| {
            clock.store(time.timestamp_millis(), Ordering::SeqCst);
            self.snapshot(&profile, time)
        };
        for nth in 1..=3 {
            say(format_args!(
                "  {}",
                at(begin + TimeDelta::minutes(nth * 10))?
            ));
        }

        title(&format!("{DAYS} simulated days"));
        let mut last = String::new();
        for day in 1..=DAYS {
            last = at(begin + TimeDelta::days(day))?;
            progress(day, DAYS);
        }
        say(format_args!("  the last one: {last}"));
        writer.end();

        title("One more, and restore it");
        let line = self.snapshot(&profile, Local::now())?;
        say(format_args!("  {line}"));
        let repository = Repository::open(&profile.reach, &self.stop, Ui::silent())?;
        let snapshots =
            crate::restore::origin::ours(&repository, &repository.snapshots()?, &profile);
        let restored = self.restore(&profile, &database)?;
        let is = |e: rusqlite::Error| self.sqlite(&database, &e);
        let facts = Facts {
            sessions: count(&restored, "sessions").map_err(is)?,
            messages: count(&restored, "messages").map_err(is)?,
            messages_by_cp,
            snapshots: snapshots.len(),
        };
        let source = (
            count(&database, "sessions").map_err(is)?,
            count(&database, "messages").map_err(is)?,
        );
        say(format_args!(
            "  restored: {} sessions, {} messages; the hub has {} and {}",
            facts.sessions,
            grouped(facts.messages),
            source.0,
            grouped(source.1)
        ));
        if (facts.sessions, facts.messages) != source {
            return Err(Error::Engine {
                doing: "the demo",
                reason: "the restored counts are not the hub's".into(),
            });
        }
        say(format_args!(
            "  equal. {} snapshots, {} in the repository",
            snapshots.len(),
            bytes(size_below(&self.folder.join("repository")))
        ));

        title("A drill: everything, secrets included");
        self.drill(&profile)?;
        Ok(facts)
    }

    /// Lays out a home; returns the recipient of its secrets.
    fn furnish(&self, home: &Path) -> io::Result<String> {
        let hapi = home.join(".hapi");
        for dir in [
            ".hapi",
            ".config/hapi",
            "coding/hapi/docs/plans",
            "voice-test-output",
        ] {
            fs::create_dir_all(home.join(dir))?;
        }
        let identity = age::x25519::Identity::generate();
        let key = self.folder.join("identity.txt");
        fs::write(&key, identity.to_string().expose_secret())?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        fs::write(
            hapi.join("hub.env"),
            "DEMO_API_KEY=not-a-real-key-0123456789\nJWT_SECRET=neither-is-this-one-987654321\n",
        )?;
        fs::write(hapi.join("driver-status.json"), "{\"state\":\"idle\"}\n")?;
        fs::write(home.join("coding/hapi/manifest.yaml"), "drivers: []\n")?;
        symlink(
            home.join("coding/hapi/manifest.yaml"),
            home.join(".config/hapi/driver-manifest.yaml"),
        )?;
        crate::demo::synthetic::write_notes(&home.join("coding/hapi/docs/plans"), 6, 1)?;
        crate::demo::synthetic::write_wav(&home.join("voice-test-output/hello.wav"), 2, 1)?;
        fs::write(
            home.join("voice-test-output/results.json"),
            "{\"passed\":1}\n",
        )?;
        Ok(identity.to_public().to_string())
    }

    /// Another process copies the file: one of our own would drop the writer's locks (POSIX).
    fn copy_like_cp(&self, database: &Path) -> Result<Option<u64>, Error> {
        let copy = self.folder.join("cp.db");
        let copied = Command::new("cp").arg(database).arg(&copy).status();
        match copied {
            Ok(status) if status.success() => Ok(count(&copy, "messages").ok()),
            Ok(_) => Err(self.at(&copy, io::Error::other("cp failed"))),
            Err(error) => Err(self.at(&copy, error)),
        }
    }

    fn snapshot(&self, profile: &Profile, at: DateTime<Local>) -> Result<String, Error> {
        let ui = Ui::silent();
        let report = snapshot::run(profile, &Request::default(), &self.context(&|| at, &ui))?;
        let output = report.output(false);
        let said = output.summary();
        self.must_be_complete(output.exit, output.complaints)?;
        Ok(said)
    }

    /// Restores the database into a folder of its own, as an operator would.
    fn restore(&self, profile: &Profile, database: &Path) -> Result<PathBuf, Error> {
        let request = restore::Request {
            target: self.folder.join("restored"),
            sources: vec!["hapi.db".into()],
            ..restore::Request::default()
        };
        let ui = Ui::silent();
        let report = restore::run(
            profile.reading(),
            &request,
            None,
            &self.context(&Local::now, &ui),
        )?;
        self.must_be_complete(report.exit(), report.complaints())?;
        let below = database.strip_prefix("/").unwrap_or(database);
        Ok(request.target.join(below))
    }

    /// Proves that everything comes back, secrets included.
    fn drill(&self, profile: &Profile) -> Result<(), Error> {
        let ui = Ui::silent();
        let identities =
            crate::recovery::identity::read(&self.folder.join("identity.txt"), &self.stop, &ui)?;
        let request = drill::Request::default();
        let context = self.context(&Local::now, &ui);
        let report = drill::run(profile.reading(), &request, Some(&identities), &context)?;
        for line in report.text(false).lines() {
            say(format_args!("{line}"));
        }
        self.must_be_complete(report.exit(), report.all_findings())
    }

    fn context<'a>(&'a self, clock: &'a dyn Fn() -> DateTime<Local>, ui: &'a Ui) -> Context<'a> {
        let stop = &self.stop;
        Context { clock, stop, ui }
    }

    fn must_be_complete(&self, exit: crate::Exit, complaints: Vec<String>) -> Result<(), Error> {
        match exit {
            crate::Exit::Complete => Ok(()),
            _ => Err(Error::Engine {
                doing: "the demo",
                reason: complaints.join("; ").into(),
            }),
        }
    }

    fn at(&self, path: &Path, error: io::Error) -> Error {
        Error::at(path)(error)
    }

    fn sqlite(&self, path: &Path, error: &rusqlite::Error) -> Error {
        self.at(path, io::Error::other(error.to_string()))
    }
}

fn count(database: &Path, table: &str) -> rusqlite::Result<u64> {
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection
        .query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |row| {
            row.get::<_, i64>(0)
        })
        .map(i64::unsigned_abs)
}

fn size_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => size_below(&entry.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

fn title(text: &str) {
    say(format_args!("\n{text}"));
}

/// The demo tells its story on standard error, so that `--json` stays one document.
fn say(text: impl fmt::Display) {
    tell(format_args!("{text}\n"));
}

fn progress(done: i64, total: i64) {
    if io::IsTerminal::is_terminal(&io::stderr()) {
        tell(format_args!(
            "\r  {done}/{total}{}",
            if done == total { "\r" } else { "" }
        ));
    }
}

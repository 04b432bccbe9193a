//! A race is a home with a hub, and a repository for each contender; [`Race::measure`] runs one of them as a
//! whole process and tells what that cost.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use hapi_sources::IntegrityCheck;
use rustic_hapi::synthetic::{Hub, Shape};

use crate::costs::{Cost, megabytes};
use crate::server::Server;
use crate::{Options, Result, SEED, Way, from_workspace};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    RusticHapi,
    /// `sqlite3 .backup`, then `restic backup`.
    BackupAndRestic,
    /// `sqlite3 .backup`, then `rustic backup`.
    BackupAndRustic,
}

use Contender::{BackupAndRestic, BackupAndRustic, RusticHapi};

impl Contender {
    pub fn short(self) -> &'static str {
        match self {
            RusticHapi => "ours",
            BackupAndRestic => "restic",
            BackupAndRustic => "rustic",
        }
    }

    /// The folder with its repository and its staged copy.
    fn folder(self) -> &'static str {
        self.short()
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Snapshot,
    /// Everything of the newest snapshot, compared with what it should be.
    Restore,
}

/// A home with a hub, and a repository for each contender.
pub struct Race {
    pub shape: Shape,
    pub hub: Hub,
    pub contenders: Vec<Contender>,
    /// Before the folder that it serves.
    pub server: Option<Server>,
    /// What is saved besides the database.
    pub more: &'static str,
    /// Removed with everything in it at the end.
    pub dir: tempfile::TempDir,
}

impl Race {
    pub fn prepare(options: &Options, shape: Shape, size: u64) -> Result<Self> {
        let root = std::env::var_os("BENCH_DIR").map_or_else(
            || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench"),
            from_workspace,
        );
        fs::create_dir_all(&root)?;
        let root = root.canonicalize()?;
        let base = generated(&root, shape, size)?;
        let dir = tempfile::Builder::new().prefix("race-").tempdir_in(&root)?;
        let mut contenders = vec![RusticHapi, BackupAndRestic];
        if Command::new("rustic").arg("--version").output().is_ok() {
            contenders.push(BackupAndRustic);
        }
        fs::create_dir_all(dir.path().join("home/.hapi"))?;
        for contender in &contenders {
            fs::create_dir_all(dir.path().join(contender.folder()))?;
        }
        let database = dir.path().join("home/.hapi/hapi.db");
        match options.keep {
            true => fs::copy(&base, &database).map(drop)?,
            false => fs::rename(&base, &database)?,
        }
        let race = Self {
            shape,
            hub: Hub::open(&database, shape, SEED)?,
            contenders,
            server: match options.way {
                Way::Disk => None,
                Way::Rest(rate) => Some(Server::start(dir.path(), rate)?),
                Way::Link => Some(Server::over_link(dir.path())?),
            },
            more: "",
            dir,
        };
        race.init(options.integrity)?;
        Ok(race)
    }

    /// Makes the repositories, each with the program that will use it.
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
# All contenders write to the disk that they read from.
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
        for &contender in &self.contenders {
            let mut init = match contender {
                RusticHapi => self.ours(&["init"]),
                BackupAndRestic => self.shell("restic init --quiet --repository-version 2"),
                BackupAndRustic => self.shell("rustic init"),
            };
            self.tell(contender, &mut init);
            self.finish(init)?;
        }
        Ok(())
    }

    /// A new repository of ours, and no memory of the old one.
    pub fn begin_anew(&mut self, integrity: IntegrityCheck) -> Result<()> {
        self.contenders = vec![RusticHapi];
        for folder in [RusticHapi.folder(), "state"] {
            fs::remove_dir_all(self.dir.path().join(folder))?;
        }
        fs::create_dir_all(self.dir.path().join(RusticHapi.folder()))?;
        self.init(integrity)
    }

    /// Where a contender's repository is.
    fn location(&self, contender: Contender) -> String {
        let name = contender.folder();
        match &self.server {
            Some(server) => format!("{}/{name}/repo/", server.address),
            None => format!("{}/{name}/repo", self.dir.path().display()),
        }
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("home/.hapi/hapi.db")
    }

    pub fn half_a_day(&mut self) -> rusqlite::Result<()> {
        self.hub.add_messages(self.shape.half_day(), 1)
    }

    /// What the state is that is measured, in words.
    pub fn describe(&self) -> Result<String> {
        let state = format!(
            "{:.2} GB, {} messages, {} more between snapshots",
            megabytes(self.hub.size()?) / 1e3,
            self.hub.messages(),
            self.shape.half_day(),
        );
        Ok(match &self.server {
            Some(server) => state + &server.name,
            None => state,
        })
    }

    pub fn measure(&self, contender: Contender, work: Work) -> Result<Cost> {
        let rusage = self.dir.path().join("rusage");
        // The staged copy is always of the same name, so that the parent snapshot is found, and is removed in
        // the end, as rustic-hapi removes its own.
        let copied = |backup: &str| {
            self.shell(&format!(
                "sqlite3 home/.hapi/hapi.db \".backup {folder}/hapi.db\" && \
                 {backup} {folder}/hapi.db {more} && rm {folder}/hapi.db",
                folder = contender.folder(),
                more = self.more,
            ))
        };
        let command = match (contender, work) {
            (RusticHapi, Work::Snapshot) => self.ours(&["--no-progress", "-q", "snapshot"]),
            (RusticHapi, Work::Restore) => {
                self.ours(&["--no-progress", "-q", "restore", "--target", "restored"])
            }
            (BackupAndRestic, Work::Snapshot) => copied("restic backup --quiet"),
            (BackupAndRustic, Work::Snapshot) => copied("rustic backup"),
            (BackupAndRestic, Work::Restore) => {
                self.shell("restic restore --quiet latest --verify --target restored")
            }
            (BackupAndRustic, Work::Restore) => return Err("rustic's restore is not run".into()),
        };
        let repository = self.dir.path().join(contender.folder()).join("repo");
        let mut timed = Command::new("time");
        timed
            .args(["--quiet", "-f", "%U %S %M %O", "-o"])
            .arg(&rusage);
        timed.arg(command.get_program()).args(command.get_args());
        self.settle(&mut timed);
        self.tell(contender, &mut timed);

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
        let (cpu_s, peak_mib) = (next()?? + next()??, next()?? / 1024.0);
        // Blocks of 512 bytes: what was written to files, be they removed before it came to a disk.
        let outputs_mb = next()?? * 512.0 / 1e6;
        let growth_mb = megabytes(bytes_below(&repository)?) - megabytes(before);
        Ok(Cost {
            wall_s,
            cpu_s,
            peak_mib,
            growth_mb,
            staged_mb: match self.server {
                Some(_) => outputs_mb,
                None => (outputs_mb - growth_mb).max(0.0),
            },
        })
    }

    pub fn ours(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rustic-hapi"));
        command
            .arg("--profile")
            .arg(self.dir.path().join("profile.toml"))
            .args(args);
        self.settle(&mut command);
        command
    }

    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        self.settle(&mut command);
        command
    }

    /// Gives a command a home below our folder, and nothing of the caller's environment: neither a
    /// profile nor a cache of the user's may take part.
    pub fn settle(&self, command: &mut Command) {
        let dir = self.dir.path();
        let mut path = dir.join("bin:").into_os_string();
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command
            .current_dir(dir)
            .env_clear()
            .env("PATH", path)
            .env("HOME", dir.join("home"))
            .env("TMPDIR", dir)
            .env("XDG_CONFIG_HOME", dir.join("config"))
            .env("XDG_STATE_HOME", dir.join("state"))
            .env("XDG_CACHE_HOME", dir.join("cache"));
    }

    /// Tells restic and rustic, each by itself, where its repository is. Ours refuses an environment that says
    /// two things.
    fn tell(&self, contender: Contender, command: &mut Command) {
        let prefix = match contender {
            RusticHapi => return,
            BackupAndRestic => "RESTIC",
            BackupAndRustic => "RUSTIC",
        };
        let dir = self.dir.path();
        let cache = dir.join(contender.folder()).join("cache");
        command
            .env(format!("{prefix}_REPOSITORY"), self.location(contender))
            .env(format!("{prefix}_PASSWORD_FILE"), dir.join("password"))
            .env(format!("{prefix}_CACHE_DIR"), cache)
            .env("RUSTIC_LOG_LEVEL", "error")
            .env("RUSTIC_NO_PROGRESS", "true");
    }

    /// Runs a command to its end; its output is of interest only when it fails.
    pub fn finish(&self, mut command: Command) -> Result<()> {
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

/// A shape's name on the command line.
pub fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Plain => "plain",
        Shape::Search => "search",
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

//! The command line as it is said; what is meant is made of it in one place each.
//! One file, since it is one list: every flag there is.
//!
//! Knows: clap, requests. Must not know: repositories, formats.

pub mod completions;
pub mod conversations;
pub mod help;
pub mod man;
pub mod meant;
mod refused;
pub mod set_up;
pub mod values;
mod version;

use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Local};
use clap::{ArgAction, Args, Parser, Subcommand};

use self::conversations::{ExportArgs, SessionsArgs};
use self::set_up::{InitArgs, ScheduleArgs};
use crate::cli::values::{LockArgs, absolute, hours, seconds};
use crate::commands::drill;
use crate::destination::credentials::redacted;
use crate::exit::Exit;
use crate::profile::Profile;
use crate::profile::lookup::{Environment, Lookup, is_a_path};
use crate::terminal::call::{Call, FROM};
use crate::terminal::prompt::{Consent, somebody_is_there};
use crate::terminal::ui::{LogFormat, Ui, Verbosity};

/// Whole, consistent snapshots of a HAPI hub in a restic repository.
#[derive(Debug, Parser)]
#[command(name = "rustic-hapi", version, long_version = version::long(), max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 complete, 1 failed, 2 usage or profile, 3 snapshot saved but not everything in the profile was done, 10 no repository, 11 locked by another run, 12 wrong password, 20 stale, 21 drill found a difference, 22 drill could not run, 24 retention floor, 129 hung up, 130 interrupted, 143 terminated.";

/// Options of every command. In the help they stand below the command's own.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Profile name (searched in ~/.config/rustic-hapi and /etc/rustic-hapi) or path [env: RUSTIC_HAPI_PROFILE]
    #[arg(
        long,
        global = true,
        value_name = "NAME|PATH",
        env = "RUSTIC_HAPI_PROFILE",
        hide_env = true
    )]
    pub profile: Option<String>,
    /// Use this home directory instead of $HOME [env: RUSTIC_HAPI_HOME]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "RUSTIC_HAPI_HOME",
        hide_env = true
    )]
    pub home: Option<PathBuf>,
    /// Repository location in restic's notation (overrides the profile) [env: RUSTIC_HAPI_REPOSITORY]
    #[arg(
        short,
        long,
        visible_alias = "repo",
        global = true,
        value_name = "LOCATION",
        env = "RUSTIC_HAPI_REPOSITORY",
        hide_env = true
    )]
    pub repository: Option<String>,
    /// File with the repository's password (overrides the profile) [env: RUSTIC_HAPI_PASSWORD_FILE]
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "RUSTIC_HAPI_PASSWORD_FILE",
        hide_env = true
    )]
    pub password_file: Option<PathBuf>,
    /// Use this copy (`[[copy]]` in the profile) in place of the main repository
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        conflicts_with = "repository"
    )]
    pub from: Option<String>,
    /// Print one JSON document on standard output (docs/json.md)
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing on success
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Show each step [env: RUSTIC_HAPI_LOG=error, info or debug]
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log format: text, or json with one object a line
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub log_format: LogFormat,
    /// Show no progress bars, even on a terminal
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Which of these a variable gave.
    #[arg(skip)]
    by_variable: Vec<&'static str>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the repository and a profile for this machine
    Init(InitArgs),
    /// Take the snapshots that are due, verify them, apply retention (for timers and cron)
    #[command(visible_alias = "backup")]
    Snapshot(SnapshotArgs),
    /// List this profile's snapshots
    Snapshots(SnapshotsArgs),
    /// List conversations, or find one by its words
    Sessions(SessionsArgs),
    /// Write one conversation as a page, as Markdown or as JSON
    Export(ExportArgs),
    /// Show whether backups are up to date
    Status(StatusArgs),
    /// Prove that everything can be restored: restore into a scratch folder and compare
    Drill(DrillArgs),
    /// Restore sources into a folder or in place, and verify each file
    Restore(RestoreArgs),
    /// Check the repository for damage and for missing snapshots
    Check {
        /// Read all data (default: this week's share)
        #[arg(long)]
        read_data: bool,
        /// Check the snapshots of this host (default: the profile's)
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
    },
    /// Find problems that would make the next scheduled run fail
    Doctor {
        /// Check again with cron's environment
        #[arg(long)]
        as_cron: bool,
    },
    /// Apply retention, or show the plan with --dry-run
    Forget(ForgetArgs),
    /// Print the environment variables for using the repository with restic or rustic
    Env {
        /// Include the server's credentials: user and password, keys
        #[arg(long)]
        with_credentials: bool,
    },
    /// Print the recovery instructions; make or verify a recovery key
    RecoveryKit(RecoveryKitArgs),
    /// Print, install or remove the systemd units or crontab lines that run `snapshot`
    Schedule(ScheduleArgs),
    /// Send a test message to the URL and command in `[notify]`
    Notify {
        /// Send it, as an anomaly: a monitor shows a problem until the next run
        #[arg(long, required = true)]
        test: bool,
    },
    /// Check or show the profile
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a folder (for packages)
    #[command(hide = true)]
    Man {
        /// The folder
        folder: PathBuf,
    },
    /// Try it all in seconds on a throwaway hub: snapshots, retention, restore
    Demo {
        /// Keep all files of the demo
        #[arg(long)]
        keep: bool,
    },
}

/// Arguments of `snapshot`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotArgs {
    /// Take only this source (may be repeated); the snapshot gets the tag `only`
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    only: Vec<String>,
    /// Take every series, even if it is not due
    #[arg(long)]
    all: bool,
    /// Add a tag, for example before-upgrade (may be repeated)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Keep this snapshot for at least this long
    #[arg(long, value_name = "60d", value_parser = hours)]
    keep: Option<u32>,
    /// Capture and check, but write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not apply retention
    #[arg(long)]
    no_forget: bool,
    /// Run `drill --weekly` after the snapshot is saved (used by timers)
    #[arg(long, conflicts_with = "dry_run")]
    drill: bool,
    #[command(flatten)]
    lock: LockArgs,
}

/// Arguments of `snapshots`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotsArgs {
    /// List the snapshots of this host (default: the profile's)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// List the snapshots of all hosts in the repository
    #[arg(long, conflicts_with = "host")]
    all_hosts: bool,
    /// List only the newest N of each host and series
    #[arg(long, value_name = "N")]
    latest: Option<NonZeroUsize>,
    /// List only snapshots with this tag (may be repeated: with all of them)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
}

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Maximum age of the newest complete snapshot (default: from the schedule)
    #[arg(long, value_name = "13h", value_parser = seconds)]
    max_age: Option<Duration>,
    /// Use the snapshots of this host (default: the profile's)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Write metrics to this file, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    pub prometheus: Option<PathBuf>,
    /// Print Markdown, to paste into an issue
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// Send a notification when backups become stale, and when they recover (for a timer on another
    /// machine)
    #[arg(long)]
    notify: bool,
}

/// Arguments of `forget`.
#[derive(Clone, Debug, Args)]
pub struct ForgetArgs {
    /// Show what would be kept and removed, with reasons; change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Also free space: mark unused packs; a prune 23 h or more later deletes them
    #[arg(long)]
    prune: bool,
    /// With --prune: delete unused data now, without waiting 23 h (for a full disk)
    #[arg(long, requires = "prune", conflicts_with_all = ["dry_run", "unattended"])]
    instant: bool,
    /// Run --instant without asking
    #[arg(long, requires = "instant")]
    yes: bool,
    /// For a timer: postpone it while others use the repository or the clock looks wrong
    #[arg(long, conflicts_with = "dry_run")]
    unattended: bool,
    /// How long to wait for another run.
    #[command(flatten)]
    lock: LockArgs,
}

/// Arguments of `drill`.
#[derive(Clone, Debug, Args)]
pub struct DrillArgs {
    /// Snapshot id or `latest` (default: for each source, its newest complete snapshot)
    snapshot: Option<String>,
    /// Choose a random snapshot that is not the newest of its series
    #[arg(long, conflicts_with = "snapshot")]
    older: bool,
    /// Choose a random older snapshot; do nothing if there was a drill this week (for a timer)
    #[arg(long, conflicts_with_all = ["snapshot", "older"])]
    weekly: bool,
    /// Test that the secrets can be decrypted with this age identity file or SSH private key (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub identity: Vec<PathBuf>,
    /// Use the snapshots of this host (default: the profile's)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Where to make the scratch folder (default: the staging folder)
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Keep the restored files
    #[arg(long)]
    keep: bool,
    /// Start this program on the copy and test that it comes up (HAPI_HOME, DB_PATH and PORT are set; secrets stay encrypted)
    #[arg(long, value_name = "CMD")]
    boot: Option<String>,
    /// Time limit for the program to listen on PORT, or to end
    #[arg(long, value_name = "60s", value_parser = seconds, default_value = "60s", requires = "boot")]
    boot_wait: Duration,
}

/// Arguments of `restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// Snapshot id or `latest` (default: for each source, its newest complete snapshot)
    snapshot: Option<String>,
    /// Folder to restore into; it gets the full paths of the snapshot
    #[arg(long, value_name = "DIR")]
    target: Option<PathBuf>,
    /// Restore over the live files, with the hub stopped: its databases, or the given `--source`s. The
    /// old files are set aside. Without a terminal, a snapshot id or `--yes` is needed
    #[arg(long, conflicts_with_all = ["target", "overwrite"])]
    in_place: bool,
    /// Replace the live files without asking (for a snapshot that is shrunk, damaged or of another
    /// host, give its id)
    #[arg(long, requires = "in_place")]
    yes: bool,
    /// Restore only this source (may be repeated)
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Decrypt the secrets with this age identity file or SSH private key (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub identity: Vec<PathBuf>,
    /// Use the snapshots of this host (default: the profile's)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Replace existing files that differ
    #[arg(long)]
    overwrite: bool,
    /// Show what would be restored; write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    lock: LockArgs,
}

/// Arguments of `recovery-kit`.
#[derive(Clone, Debug, Args)]
pub struct RecoveryKitArgs {
    /// Add a second key to the repository; keep it off this machine
    #[arg(long, conflicts_with_all = ["confirm", "output"])]
    new_key: bool,
    /// Test that your copy of the recovery key opens the repository
    #[arg(long, conflicts_with = "output")]
    confirm: bool,
    /// Write the new key to this new file, or read your copy from it (`-`: standard input)
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    key_file: Option<PathBuf>,
    /// Write the instructions to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What to do with the profile.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ProfileCommand {
    /// Check that the profile is valid
    Check,
    /// Print the profile, including inherited settings
    Show,
}

impl Cli {
    /// Whether a prune may follow: a run that takes everything and removes what is old.
    pub fn may_prune(&self) -> bool {
        match &self.command {
            Command::Snapshot(args) => !args.dry_run && !args.no_forget && args.only.is_empty(),
            _ => false,
        }
    }

    /// Whether the copies are brought up to date after it.
    pub fn may_copy(&self) -> bool {
        matches!(&self.command, Command::Snapshot(args) if !args.dry_run)
    }

    /// Whether a drill may follow.
    pub fn may_drill(&self) -> bool {
        matches!(&self.command, Command::Snapshot(args) if args.drill)
    }

    /// Whether it would only be tried.
    pub fn is_dry_run(&self) -> bool {
        matches!(&self.command, Command::Snapshot(args) if args.dry_run)
    }

    /// How it ends where all was done and its output could not be written.
    pub fn exit_unsaid(&self) -> Exit {
        match self.command {
            Command::Snapshot(_) if !self.is_dry_run() => Exit::Incomplete,
            _ => Exit::Failed,
        }
    }

    /// What holds after a signal ended it, and what to do then.
    pub fn after_a_signal(&self) -> Option<&'static str> {
        Some(match &self.command {
            Command::Snapshot(_) => {
                "no half snapshot was saved; the next run sends only what is missing"
            }
            Command::Restore(args) if args.in_place => {
                "run the same command again: it completes or undoes what was begun"
            }
            Command::Restore(_) => {
                "each file that has its name is whole; the same command restores the rest"
            }
            Command::Forget(_) => {
                "each snapshot is either removed or whole; the same command removes the rest"
            }
            Command::Init(_) => "run the same command again: it continues with what is there",
            Command::Check { .. } | Command::Drill(_) => "nothing was changed",
            _ => return None,
        })
    }

    /// What is to be on record and told of, under which name, and whether without telling anybody.
    pub fn supervised(
        &self,
        lookup: &Lookup,
        now: DateTime<Local>,
    ) -> Option<(&'static str, bool)> {
        match &self.command {
            Command::Snapshot(args) => Some(("snapshot", args.dry_run)),
            Command::Drill(args) if args.weekly => {
                // What is wrong with the profile, the drill itself says.
                let found = Profile::load_or_reach(lookup).ok();
                let request = args.request();
                let why =
                    found.and_then(|found| drill::not_due(found.reading(), &request, now).ok()?);
                why.is_none().then_some(("drill", false))
            }
            Command::Drill(_) => Some(("drill", true)),
            Command::Status(args) if args.notify => Some(("status", false)),
            _ => None,
        }
    }
}

impl Global {
    /// Where the profile is looked for, and what wins over it.
    pub fn lookup(&self) -> Lookup {
        Lookup {
            profile: self.profile.clone(),
            home: self.home.clone(),
            repository: self.repository.as_deref().map(absolute),
            password_file: self.password_file.clone(),
            from: self.copy(),
            env: Environment::from_process(),
        }
    }

    /// The copy that is meant; `main` is the main repository.
    fn copy(&self) -> Option<String> {
        self.from.clone().filter(|name| name != "main")
    }

    /// Who agrees to what takes something away: `yes`, or somebody who can be asked.
    fn consent(&self, yes: bool) -> Consent {
        match (yes, !self.json && somebody_is_there()) {
            (true, _) => Consent::Given,
            (_, true) => Consent::Terminal,
            _ => Consent::Nobody,
        }
    }

    /// Whether there is somebody to show a secret to, and nothing that keeps what is shown.
    fn may_show(&self) -> bool {
        !self.json && !self.quiet && std::io::stdout().is_terminal()
    }

    /// The user interface that was asked for.
    pub fn ui(&self) -> Ui {
        let verbosity = match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, 1..) => Verbosity::Verbose,
            _ => match std::env::var("RUSTIC_HAPI_LOG").as_deref() {
                Ok("error" | "warn" | "warning") => Verbosity::Quiet,
                Ok("debug" | "trace") => Verbosity::Verbose,
                _ => Verbosity::Normal,
            },
        };
        Ui::new(verbosity, self.no_progress || self.json)
            .logging(self.log_format)
            .called(self.call())
    }

    /// What advice repeats. A location with a password in it is named only.
    fn call(&self) -> Call {
        let path = |path: &Option<PathBuf>| {
            let path = path.as_ref()?;
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            Some(whole.to_string_lossy().into_owned())
        };
        let profile = self.profile.as_ref().map(PathBuf::from);
        let profile = match is_a_path(self.profile.as_deref().unwrap_or_default()) {
            true => path(&profile),
            false => self.profile.clone(),
        };
        let repository = self.repository.as_deref().map(absolute);
        let repository = repository.map(|location| match redacted(&location) == location {
            true => location,
            false => "LOCATION".to_owned(),
        });
        let options = [
            ("--profile", profile),
            ("--home", path(&self.home)),
            ("--repository", repository),
            ("--password-file", path(&self.password_file)),
            (FROM, self.copy()),
        ];
        let all = std::env::args_os().skip(1);
        let all = all.map(|word| word.to_string_lossy().into_owned());
        // What came from a variable is not set in another shell.
        let by_variable = |flag: &str| {
            let id = flag.trim_start_matches('-').replace('-', "_");
            self.by_variable.contains(&id.as_str())
        };
        let from_variables: Vec<String> = options
            .iter()
            .filter(|(flag, _)| by_variable(flag))
            .filter_map(|(flag, value)| Some([(*flag).to_owned(), value.clone()?]))
            .flatten()
            .collect();
        let all = from_variables.into_iter().chain(all);
        Call::new(
            options,
            all.map(|word| match redacted(&word) == word {
                true => word,
                false => "LOCATION".to_owned(),
            }),
        )
    }
}

//! What is said to set a machine up: `init` and `schedule`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::values::LockArgs;

/// Arguments of `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Encrypt secrets to this age recipient (age1…) or SSH public key (may be repeated; give two)
    #[arg(long, value_name = "KEY")]
    pub(super) recipient: Vec<String>,
    /// Read recipients from this file, one per line: an age recipients file, authorized_keys, a .pub file
    #[arg(long, value_name = "FILE")]
    pub(super) recipients_file: Vec<PathBuf>,
    /// Shipped profile to extend: hapi or hapi-stock (default: detected)
    #[arg(long, value_name = "NAME")]
    pub(super) extends: Option<String>,
    /// HAPI's home directory (default: detected)
    #[arg(long, value_name = "DIR")]
    pub(super) hapi_home: Option<PathBuf>,
    /// Host name for the snapshots (default: this machine's)
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
    /// Continue the snapshots of this hub, after its home moved or on a new machine. Without it,
    /// `init` lists the hubs that have snapshots in the repository
    #[arg(long, value_name = "HUB-ID")]
    pub(super) adopt: Option<String>,
    /// Also take the transcripts of the agents (Claude, Codex and others), once a day: without them a restored
    /// session can be read, and not resumed
    #[arg(long)]
    pub(super) with_agents: bool,
    /// Accept a repository on the same disk as the hub
    #[arg(long)]
    pub(super) allow_same_disk: bool,
    /// Write the server's user and password, or keys, into this file (mode 0600) and name it in the profile;
    /// they come from this shell's variables, or from a prompt
    #[arg(long, value_name = "FILE")]
    pub(super) environment_file: Option<PathBuf>,
    /// Write a recovery key to this new file (default: show it once on the terminal)
    #[arg(long, value_name = "FILE")]
    pub(super) recovery_key: Option<PathBuf>,
    /// Create the repository of this `[[copy]]`, with the main one's chunk size
    #[arg(long, value_name = "NAME", conflicts_with_all = ["recipient", "recipients_file", "extends", "hapi_home", "host", "adopt", "environment_file", "allow_same_disk"])]
    pub copy: Option<String>,
    #[command(flatten)]
    pub(super) lock: LockArgs,
}

/// Arguments of `schedule`.
#[derive(Clone, Debug, Args)]
pub struct ScheduleArgs {
    /// Install it (default: a systemd timer of this user)
    #[arg(long)]
    pub(super) install: bool,
    /// Remove it; other lines and files stay
    #[arg(long, conflicts_with = "install")]
    pub(super) remove: bool,
    /// Use system units, which run as the hub's user (install them as root)
    #[arg(long)]
    pub(super) system: bool,
    /// User they run as (default: the owner of the hub's database)
    #[arg(long, value_name = "NAME", requires = "system")]
    pub(super) user: Option<String>,
    /// Use this user's crontab, where there is no systemd
    #[arg(long, conflicts_with = "system")]
    pub(super) cron: bool,
}

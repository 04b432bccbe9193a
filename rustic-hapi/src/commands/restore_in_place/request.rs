//! What an in-place restore is asked to do, and the command that would say it.

use std::path::PathBuf;
use std::time::Duration;

use crate::machine::shell::quoted;
use crate::policy::choice::Which;
use crate::policy::history::Snapshot;
use crate::terminal::prompt::Consent;

/// What an in-place restore is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which snapshots.
    pub which: Which,
    /// Only these sources; the databases if empty.
    pub sources: Vec<String>,
    /// The files with the identities, as they were given.
    pub identities: Vec<PathBuf>,
    /// Another host's snapshots than the profile's.
    pub host: Option<String>,
    /// Say what would be replaced; change nothing.
    pub dry_run: bool,
    /// Who says yes before anything is replaced.
    pub consent: Consent,
    /// How long to wait for another run.
    pub lock_wait: Duration,
}

impl Request {
    /// Whether a snapshot was named by its id; `latest` is whatever is the newest.
    pub(super) fn has_id(&self) -> bool {
        matches!(&self.which, Which::Named(name) if name != "latest")
    }

    /// The command that brings a choice back, and nothing else.
    pub(super) fn command(&self, snapshot: &Snapshot, source: Option<&str>) -> String {
        let mut command = format!("rustic-hapi restore {} --in-place", snapshot.short_id());
        if let Some(host) = &self.host {
            command += &format!(" --host {}", quoted(host));
        }
        let named: Vec<&str> = match source {
            Some(source) => vec![source],
            None => self.sources.iter().map(String::as_str).collect(),
        };
        for source in named {
            command += &format!(" --source {}", quoted(source));
        }
        for file in &self.identities {
            command += &format!(" --identity {}", quoted(&file.to_string_lossy()));
        }
        command
    }
}

//! The arguments of `sessions` and `export`, and what is meant by them.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use crate::commands::conversations::origin::Place;
use crate::commands::export::Format;
use crate::commands::{export, sessions};
use crate::error::Error;
use crate::policy::choice::Which;

/// Arguments of `sessions`.
#[derive(Clone, Debug, Args)]
pub struct SessionsArgs {
    /// Snapshot id or `latest` (default: the newest that holds the database whole)
    #[arg(conflicts_with_all = ["live", "all_snapshots"])]
    snapshot: Option<String>,
    /// List only conversations with this text, in whatever case: in the title, the folder or a message
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
}

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Id of the session, or 4 or more characters that it begins with
    session: String,
    /// Snapshot id or `latest` (default: the newest that holds the database whole)
    #[arg(long, value_name = "ID", conflicts_with_all = ["live", "all_snapshots"])]
    snapshot: Option<String>,
    /// Format of the export
    #[arg(long, value_name = "FORMAT", default_value = "html")]
    format: Format,
    /// Write to this new file, mode 0600 (default: standard output)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
}

/// Where conversations are read, other than in one snapshot.
#[derive(Clone, Debug, Args)]
pub(super) struct PlaceArgs {
    /// Read the live database, through a copy; the hub goes on
    #[arg(long, conflicts_with_all = ["all_snapshots", "host"])]
    pub(super) live: bool,
    /// Look through all snapshots, the newest first: this finds a deleted conversation
    #[arg(long)]
    all_snapshots: bool,
    /// Use the snapshots of this host (default: the profile's)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

impl PlaceArgs {
    fn place(&self, snapshot: Option<&String>) -> Place {
        match (self.live, self.all_snapshots, snapshot) {
            (true, _, _) => Place::Live,
            (_, true, _) => Place::AllSnapshots,
            (_, _, Some(name)) => Place::Snapshot(Which::Named(name.clone())),
            (_, _, None) => Place::default(),
        }
    }
}

impl SessionsArgs {
    /// What is meant.
    ///
    /// # Errors
    /// The text to look for is empty.
    pub fn request(&self) -> Result<sessions::Request, Error> {
        if self
            .search
            .as_ref()
            .is_some_and(|text| text.trim().is_empty())
        {
            return Err(Error::usage(
                "the text to search for is empty",
                "leave out `--search` to list all conversations",
            ));
        }
        Ok(sessions::Request {
            place: self.place.place(self.snapshot.as_ref()),
            host: self.place.host.clone(),
            search: self.search.clone(),
        })
    }
}

impl ExportArgs {
    /// What is meant; `json` asks for a report on standard output.
    ///
    /// # Errors
    /// Two documents would go to standard output, or a page to a terminal.
    pub fn request(&self, json: bool) -> Result<export::Request, Error> {
        let output = self.output.as_ref().filter(|path| path.as_os_str() != "-");
        if output.is_none() && json {
            return Err(Error::usage(
                "`--json` prints a report on standard output, where the conversation goes",
                "name a file for the conversation: `-o FILE`; or write it as JSON: `--format json`",
            ));
        }
        if output.is_none() && self.format == Format::Html && std::io::stdout().is_terminal() {
            return Err(Error::usage(
                "a page is for a browser, not for a terminal",
                "name a file: `-o conversation.html`; or read it here: `--format markdown`",
            ));
        }
        Ok(export::Request {
            session: self.session.clone(),
            place: self.place.place(self.snapshot.as_ref()),
            host: self.place.host.clone(),
            format: self.format,
            output: output.cloned(),
        })
    }
}

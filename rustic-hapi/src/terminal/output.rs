//! An output is what a command says in the end: text for a human, one line for a log, a document
//! for a program, complaints for standard error, and the exit code.

use std::io::IsTerminal;

use serde_json::{Value, json};

use crate::commands::init;
use crate::error::{Error, Exit};
use crate::profile::Profile;
use crate::recovery::key::RecoveryKey;
use crate::report::{RunReport, error_json};
use crate::terminal::ui::{Ui, Verbosity};

/// The version of the JSON documents.
pub const JSON_VERSION: u32 = 1;

/// What a command says in the end.
#[derive(Debug)]
pub struct Output {
    long: Long,
    line: Option<String>,
    /// The document for `--json`.
    pub json: Value,
    /// For standard error, whatever the verbosity.
    pub complaints: Vec<String>,
    /// For the terminal alone, after the text: part of neither text nor document.
    pub shown_once: Option<RecoveryKey>,
    /// The exit code.
    pub exit: Exit,
    /// It worked, and somebody should look at what came of it.
    pub odd: bool,
    /// What the operator decided and is reminded of, but not under `-q`.
    pub remarks: Vec<String>,
}

#[derive(Debug)]
enum Long {
    Plain(String),
    /// What was done, rather than what was asked for.
    Done(String),
    Run(Box<RunReport>),
}

impl Output {
    /// Text and its document, of something that worked.
    pub fn new(text: String, json: Value) -> Self {
        Self {
            long: Long::Plain(text),
            line: None,
            json,
            complaints: Vec::new(),
            odd: false,
            remarks: Vec::new(),
            shown_once: None,
            exit: Exit::Complete,
        }
    }

    /// The same of a command that does something, and says nothing of it under `-q`.
    pub fn done(text: String, json: Value) -> Self {
        Self {
            long: Long::Done(text),
            ..Self::new(String::new(), json)
        }
    }

    /// With what goes to standard error, and the exit code.
    #[must_use]
    pub fn ending(mut self, exit: Exit, complaints: Vec<String>) -> Self {
        self.exit = exit;
        self.complaints = complaints;
        self
    }

    /// A command that finds that it need not do anything now.
    pub fn nothing_to_do(command: &str, why: &str) -> Self {
        let json = json!({
            "version": JSON_VERSION, "command": command, "exit": 0, "nothing-to-do": why,
        });
        Self::done(format!("{why}\n"), json)
    }

    /// With what it comes to in one line, for a log or a notification.
    #[must_use]
    pub fn in_short(mut self, line: String) -> Self {
        self.line = Some(line);
        self
    }

    /// An error.
    pub fn of_error(error: &Error) -> Self {
        // A library's error may have the address in it, credentials and all.
        let mut complaints = vec![format!(
            "error: {}",
            crate::destination::credentials::redacted(&error.to_string())
        )];
        complaints.extend(error.hint().map(|hint| format!("hint: {hint}")));
        let mut json = error_json(error);
        json["version"] = json!(JSON_VERSION);
        Self {
            complaints,
            exit: error.exit(),
            ..Self::new(String::new(), json)
        }
    }

    /// A signal ended the run: its exit code counts, and what follows from it is no news.
    pub fn ended_by(&mut self, error: &Error) {
        self.exit = error.exit();
        self.json["exit"] = json!(self.exit as u8);
        self.complaints = vec![format!("error: {error}")];
    }

    /// What happened, in one line for a log or a notification.
    pub fn summary(&self) -> String {
        match (&self.line, &self.long) {
            (Some(line), _) => line.clone(),
            (None, Long::Plain(text) | Long::Done(text)) if !text.is_empty() => {
                text.lines().last().unwrap_or_default().to_owned()
            }
            _ => self.complaints.first().cloned().unwrap_or_default(),
        }
    }

    /// The run has this id.
    pub(crate) fn named(&mut self, run: &str) {
        self.json["run"] = json!(run);
        let short = run.get(..8).unwrap_or(run);
        if let Some(line) = &mut self.line {
            *line += &format!(" (run {short})");
        }
        if self.exit != Exit::Complete {
            self.complaints.push(format!("note: run {short}"));
        }
    }

    /// A profile that makes sense.
    pub fn checked(profile: &Profile) -> Self {
        let text = format!(
            "{} makes sense: {} sources in {} series to {}\n",
            profile.file.display(),
            profile.sources.len(),
            profile.series.len(),
            profile.location
        );
        let json = json!({
            "version": JSON_VERSION,
            "command": "profile check",
            "profile": profile.file,
            "location": profile.location.to_string(),
            "home": profile.home,
            "hapi-home": profile.hapi_home,
            "state": profile.state,
            "staging": profile.staging,
            "sources": profile.sources.iter().map(|s| json!({
                "name": s.source.name, "kind": s.source.kind, "path": s.source.path,
                "series": s.series, "required": s.source.required,
            })).collect::<Vec<_>>(),
        });
        Self::done(text, json)
    }

    /// A merged profile.
    pub fn shown(toml: String) -> Self {
        let json = json!({ "version": JSON_VERSION, "command": "profile show", "toml": toml });
        Self::new(toml, json)
    }

    /// What goes to standard output: everything on a terminal, one line elsewhere, nothing of a
    /// success under `-q`.
    pub fn text(&self, ui: &Ui) -> String {
        match &self.long {
            Long::Plain(text) => text.clone(),
            Long::Run(_) | Long::Done(_) if ui.verbosity == Verbosity::Quiet => String::new(),
            Long::Done(text) => text.clone(),
            Long::Run(report)
                if std::io::stdout().is_terminal() || ui.verbosity == Verbosity::Verbose =>
            {
                report.text(ui.colour)
            }
            Long::Run(_) => self
                .line
                .iter()
                .map(|line| ui.logged(line) + "\n")
                .collect(),
        }
    }
}

impl From<RunReport> for Output {
    fn from(report: RunReport) -> Self {
        Self {
            line: Some(report.line()),
            json: report.json(),
            complaints: report.complaints(),
            odd: report.is_odd(),
            remarks: report.remarks.clone(),
            shown_once: None,
            exit: report.exit(),
            long: Long::Run(Box::new(report)),
        }
    }
}

impl From<init::Report> for Output {
    fn from(report: init::Report) -> Self {
        let mut output = Self::done(report.text(), report.json());
        output.complaints = report.complaints();
        if let init::Recovery::Made(made) = report.recovery {
            output.shown_once = made.shown_once;
        }
        output
    }
}

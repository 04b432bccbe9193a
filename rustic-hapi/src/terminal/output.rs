//! An output is what a command says in the end: text for a human, one line for a log, a document
//! for a program, complaints for standard error, and the exit code. It is worded by then.

use std::io::{self, IsTerminal};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::exit::Exit;
use crate::machine::process::name_of_stdout;
use crate::terminal::call::Call;
use crate::terminal::ui::{LogFormat, Ui, Verbosity};

/// The version of the JSON documents.
pub(crate) const JSON_VERSION: u32 = 1;

/// What a command says in the end.
#[derive(Debug)]
pub struct Output {
    long: String,
    shown: Shown,
    line: Option<String>,
    /// Its advice has the options of a call.
    is_complete: bool,
    /// The first digits of the run's id.
    run: Option<String>,
    /// Whose run it was and how it ended, for a log or a mail, where not all went well.
    pub(crate) opening: Option<String>,
    /// The document for `--json`.
    pub json: Value,
    /// For standard error, whatever the verbosity.
    pub complaints: Vec<String>,
    /// For the terminal alone, after the text: part of neither text nor document.
    pub shown_once: Option<Zeroizing<String>>,
    /// The exit code.
    pub exit: Exit,
    /// It worked, and somebody should look at what came of it.
    pub odd: bool,
    /// What the operator decided and is reminded of, but not under `-q`.
    pub remarks: Vec<String>,
}

/// When the text is printed.
#[derive(Clone, Copy, Debug)]
enum Shown {
    /// It is what was asked for.
    Always,
    /// It is for a file or another program, as it is: no advice is in it.
    Verbatim,
    /// It says what was done: not under `-q`.
    UnlessQuiet,
    /// It is a page: the line is printed instead where standard output is a log.
    OnATerminal,
}

impl Output {
    /// Text and its document, of something that worked.
    pub fn new(text: String, json: Value) -> Self {
        Self {
            long: text,
            shown: Shown::Always,
            line: None,
            is_complete: false,
            run: None,
            opening: None,
            json,
            complaints: Vec::new(),
            odd: false,
            remarks: Vec::new(),
            shown_once: None,
            exit: Exit::Complete,
        }
    }

    /// The same of a text that is for a file or another program.
    pub fn verbatim(text: String, json: Value) -> Self {
        Self {
            shown: Shown::Verbatim,
            ..Self::new(text, json)
        }
    }

    /// The same of a command that does something, and says nothing of it under `-q`.
    pub fn done(text: String, json: Value) -> Self {
        Self {
            shown: Shown::UnlessQuiet,
            ..Self::new(text, json)
        }
    }

    /// The same of a run that mostly nobody watches.
    pub fn run(text: String, line: String, json: Value) -> Self {
        Self {
            shown: Shown::OnATerminal,
            line: Some(line),
            ..Self::new(text, json)
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

    /// A signal ended the run: its exit code counts, and what follows from it is no news.
    pub fn ended_by(&mut self, error: &Error) {
        self.exit = error.exit();
        self.json["exit"] = json!(self.exit as u8);
        self.complaints = vec![format!("error: {error}")];
    }

    /// The text could not be written: what was done is then no complete success, but ends with `exit`. The
    /// lines that say so are in the complaints, too.
    pub fn unsaid(&mut self, error: &io::Error, exit: Exit) -> Vec<String> {
        let place = name_of_stdout().map_or_else(String::new, |name| format!(" (`{name}`)"));
        let mut lines = vec![format!(
            "error: the output could not be written to standard output{place}: {error}"
        )];
        if self.exit == Exit::Complete {
            self.exit = exit;
            let hint = match self.shown {
                Shown::Always | Shown::Verbatim => {
                    "make room there or write to another file, then run the same command again"
                }
                _ if exit == Exit::Incomplete => {
                    "the snapshot is saved, `rustic-hapi snapshots` lists it; only its report is lost"
                }
                _ => "the work itself is done; only its report is lost",
            };
            lines.push(format!("hint: {hint}"));
        }
        self.complaints.extend(lines.iter().cloned());
        lines
    }

    /// What happened, in one line for a log or a notification.
    pub fn summary(&self) -> String {
        let last = || self.long.lines().last().map(str::to_owned);
        let line = self.line.clone().or_else(last);
        line.or_else(|| self.complaints.first().cloned())
            .unwrap_or_default()
    }

    /// Every command that it advises repeats the options of this call, the first that it is asked for.
    #[must_use]
    pub fn in_a_call(mut self, call: &Call) -> Self {
        if std::mem::replace(&mut self.is_complete, true) {
            return self;
        }
        let lines = self.complaints.iter_mut().chain(&mut self.remarks);
        lines
            .chain(&mut self.line)
            .for_each(|line| *line = call.complete(line));
        if !matches!(self.shown, Shown::Verbatim) {
            self.long = call.complete(&self.long);
            complete(&mut self.json, call);
        }
        self
    }

    /// The run has this id.
    pub(crate) fn named(&mut self, run: &str) {
        self.json["run"] = json!(run);
        self.run = Some(run.get(..8).unwrap_or(run).to_owned());
    }

    /// What goes to standard error. A log or a mail begins with `opening`: there it is all that somebody sees.
    pub fn told(&self, ui: &Ui) -> Vec<String> {
        let is_mail = !io::stderr().is_terminal();
        let opening = self.opening.iter().filter(|_| is_mail).cloned();
        let quiet = ui.verbosity == Verbosity::Quiet;
        // Where the line is not on standard output, here is the place to name the run.
        let run = match &self.run {
            Some(run) if self.exit != Exit::Complete && (quiet || self.line.is_none()) => {
                let line = self.line.iter().filter(|_| quiet && is_mail);
                line.map(|line| format!("note: {line} (run {run})"))
                    .next()
                    .or_else(|| Some(format!("note: run {run}")))
            }
            _ => None,
        };
        let remarks = self.remarks.iter().filter(|_| !quiet).cloned();
        let complaints = self.complaints.iter().cloned();
        opening
            .chain(complaints)
            .chain(run)
            .chain(remarks)
            .collect()
    }

    /// What goes to standard output: everything on a terminal, one line elsewhere, nothing of a
    /// success under `-q`.
    pub fn text(&self, ui: &Ui) -> String {
        let is_log = || match ui.format {
            LogFormat::Json => true,
            LogFormat::Text => {
                !std::io::stdout().is_terminal() && ui.verbosity != Verbosity::Verbose
            }
        };
        match self.shown {
            Shown::UnlessQuiet | Shown::OnATerminal if ui.verbosity == Verbosity::Quiet => {
                String::new()
            }
            Shown::OnATerminal if is_log() => self
                .line
                .iter()
                .map(|line| match &self.run {
                    Some(run) => format!("{line} (run {run})"),
                    None => line.clone(),
                })
                .map(|line| ui.logged(&line) + "\n")
                .collect(),
            _ => self.long.clone(),
        }
    }
}

fn complete(json: &mut Value, call: &Call) {
    match json {
        Value::String(text) => *text = call.complete(text),
        Value::Array(values) => values.iter_mut().for_each(|value| complete(value, call)),
        Value::Object(fields) => fields.values_mut().for_each(|value| complete(value, call)),
        _ => {}
    }
}

//! A report is what was done about a schedule, or would be.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::request::{Action, Request};
use crate::exit::Exit;
use crate::policy::manifest::PathRecord;
use crate::terminal::output::{JSON_VERSION, Output};

/// What was done, or would be.
#[derive(Debug)]
pub struct Report {
    pub(crate) request: Request,
    pub(crate) name: String,
    pub(crate) user: Option<String>,
    pub(crate) slots: Vec<String>,
    pub(crate) files: Vec<(PathBuf, String)>,
    pub(crate) lines: Option<String>,
    pub(crate) changed: bool,
    pub(crate) to_type: Vec<String>,
    /// Why what was installed does not run by itself, and what helps.
    pub(crate) inactive: Option<(&'static str, String)>,
    pub(crate) warnings: Vec<String>,
}

impl Report {
    pub(crate) fn new(request: Request, name: String) -> Self {
        Self {
            request,
            name,
            user: None,
            slots: Vec::new(),
            files: Vec::new(),
            lines: None,
            changed: false,
            to_type: Vec::new(),
            inactive: None,
            warnings: Vec::new(),
        }
    }

    /// For the terminal, and for programs.
    pub fn output(self) -> Output {
        let mut warnings = self.warnings.clone();
        let mut exit = Exit::Complete;
        if let Some((fact, hint)) = &self.inactive {
            exit = Exit::Incomplete;
            warnings.push(format!("error: written, but nothing calls it: {fact}"));
            warnings.push(format!("hint: {hint}"));
        }
        let text = self.text();
        let json = self.json();
        match self.request.action {
            Action::Print => Output::verbatim(text, json),
            Action::Install | Action::Remove => Output::done(text, json),
        }
        .ending(exit, warnings)
    }

    fn text(&self) -> String {
        let mut text = match self.request.action {
            Action::Print => return self.printed(),
            Action::Install => self.installed_text(),
            Action::Remove => self.removed_text(),
        };
        if !self.to_type.is_empty() {
            text += "where a systemd answers, type:\n";
            for command in &self.to_type {
                text += &format!("    {command}\n");
            }
        }
        text
    }

    /// As it is written, with each file's name above it.
    fn printed(&self) -> String {
        if let Some(lines) = &self.lines {
            return lines.clone();
        }
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(path, text)| format!("# {}\n{text}", path.display()))
            .collect();
        files.join("\n")
    }

    fn installed_text(&self) -> String {
        let what = match self.changed {
            true => "written",
            false => "there already",
        };
        let mut text = String::new();
        if self.lines.is_some() {
            text += &format!("{what}: the block of `{}` in the crontab\n", self.name);
        }
        for (path, _) in &self.files {
            text += &format!("{what}: {}\n", path.display());
        }
        if let Some(user) = &self.user {
            text += &format!("runs as `{user}`, the hub's user\n");
        }
        match self.inactive {
            None => text + &format!("runs at {}, local time\n", self.slots.join(", ")),
            Some(_) => text,
        }
    }

    fn removed_text(&self) -> String {
        if !self.changed {
            return format!(
                "there was no {} to remove\n",
                self.request.kind.noun().trim_start_matches("a ")
            );
        }
        let mut text = String::new();
        if self.lines.is_some() {
            text += &format!("removed: the block of `{}` in the crontab\n", self.name);
        }
        for (path, _) in &self.files {
            text += &format!("removed: {}\n", path.display());
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "version": JSON_VERSION,
            "command": "schedule",
            "action": match self.request.action {
                Action::Print => "print",
                Action::Install => "install",
                Action::Remove => "remove",
            },
            "kind": self.request.kind.name(),
            "profile": self.name,
            "user": self.user,
            "slots": self.slots,
            "files": self.files.iter().map(|(path, text)| json!({ "path": PathRecord::from(path), "text": text })).collect::<Vec<_>>(),
            "crontab": self.lines,
            "changed": self.changed,
            "to-type": self.to_type,
            "active": self.inactive.is_none(),
            "warnings": self.warnings,
        })
    }
}

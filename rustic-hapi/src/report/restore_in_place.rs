//! What an in-place restore says.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::commands::restore_in_place::Report;
use crate::exit::Exit;
use crate::machine::shell::quoted;
use crate::policy::manifest::PathRecord;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::words::bytes;

impl Report {
    /// For a terminal, and for a log.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            _ = writeln!(
                text,
                "  {}  {}  {:>10}  {}",
                file.source,
                file.choice.snapshot,
                bytes(file.bytes),
                file.live.display()
            );
            match (&file.set_aside, self.dry_run, file.already) {
                (_, true, _) => {}
                (_, _, true) => text += "    was the same already\n",
                (Some(aside), _, _) => {
                    _ = writeln!(text, "    what was there is in {}", aside.display());
                }
                (None, _, _) => text += "    there was nothing before\n",
            }
        }
        if self.dry_run {
            text += "nothing was changed (--dry-run)\n";
            return text;
        }
        _ = writeln!(
            text,
            "restored in place in {:.1} s, each file compared with its manifest{}",
            self.took.as_secs_f64(),
            if self.has_database() {
                ", each database opened"
            } else {
                ""
            }
        );
        if let Some(line) = self.undo_line() {
            _ = writeln!(text, "{line}");
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "version": JSON_VERSION,
            "command": "restore --in-place",
            "exit": 0,
            "dry-run": self.dry_run,
            "seconds": self.took.as_secs_f64(),
            "files": self.files.iter().map(|f| json!({
                "source": f.source,
                "snapshot": f.choice.snapshot.id.to_hex().to_string(),
                "time": f.choice.snapshot.time.to_rfc3339(),
                "live": PathRecord::from(&f.live),
                "bytes": f.bytes,
                "set-aside": f.set_aside.as_ref().map(PathRecord::from),
                "already": f.already,
            })).collect::<Vec<_>>(),
            "undo": self.undo,
            "undo-script": self.undo_script.as_ref().map(PathRecord::from),
            "warnings": self.warnings,
        })
    }

    /// The way back, in one line.
    fn undo_line(&self) -> Option<String> {
        let script = self.undo_script.as_ref()?;
        let script = quoted(&script.to_string_lossy());
        Some(format!("to undo this, with the hub stopped: `sh {script}`"))
    }

    /// What the command says in the end.
    pub fn output(&self, quiet: bool) -> Output {
        let warnings = self.warnings.iter().map(|w| format!("warning: {w}"));
        // Without the text it is told all the same.
        let undo = self.undo_line().filter(|_| quiet);
        let complaints = warnings
            .chain(undo.map(|line| format!("note: {line}")))
            .collect();
        Output::done(self.text(), self.json()).ending(Exit::Complete, complaints)
    }
}

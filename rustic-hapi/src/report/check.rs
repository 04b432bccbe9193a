//! What a check says.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::commands::check::Report;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::paint::Paint;

impl Report {
    /// For a terminal, and for a log.
    pub fn text(&self, colour: bool) -> String {
        let paint = Paint(colour);
        let verdict = match self.findings.len() {
            0 => paint.green("no errors were found"),
            1 => paint.red("1 thing is wrong"),
            n => paint.red(&format!("{n} things are wrong")),
        };
        let mut text = String::new();
        _ = writeln!(
            text,
            "{verdict}: structure, {} snapshots against their manifests, {}; {:.1} s",
            self.snapshots,
            self.read,
            self.took.as_secs_f64()
        );
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "version": JSON_VERSION,
            "command": "check",
            "exit": self.exit() as u8,
            "time": self.time.to_rfc3339(),
            "repository": self.repository,
            "read": self.read,
            "snapshots": self.snapshots,
            "findings": self.findings,
            "notes": self.notes,
            "seconds": self.took.as_secs_f64(),
        })
    }

    /// What the command says in the end.
    pub fn output(&self, colour: bool) -> Output {
        // The first ones tell; `--json` has them all.
        const SHOWN: usize = 20;
        let mut complaints = Vec::new();
        let mut remedies: Vec<&str> = Vec::new();
        for finding in self.findings.iter().take(SHOWN) {
            complaints.push(format!("error: {}", finding.fact));
            if !remedies.contains(&finding.remedy.as_str()) {
                remedies.push(finding.remedy.as_str());
            }
        }
        if self.findings.len() > SHOWN {
            complaints.push(format!(
                "error: and {} more (--json has them all)",
                self.findings.len() - SHOWN
            ));
        }
        complaints.extend(remedies.iter().map(|remedy| format!("hint: {remedy}")));
        complaints.extend(self.notes.iter().map(|note| format!("note: {note}")));
        Output::done(self.text(colour), self.json()).ending(self.exit(), complaints)
    }
}

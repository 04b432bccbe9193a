//! What a doctor says.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{JSON_VERSION, plural};
use crate::doctor::{Finding, Report, Verdict};
use crate::output::Output;
use crate::paint::Paint;
use crate::ui::{Ui, Verbosity};

impl Report {
    /// A line each, the remedy below what is not well; under `quiet` only that.
    pub fn text(&self, colour: bool, quiet: bool) -> String {
        let paint = Paint(colour);
        let mut text = String::new();
        let differs = |f: &&Finding| !self.findings.contains(f);
        let all = self.findings.iter().map(|f| ("", f));
        let all = all.chain(
            self.as_cron
                .iter()
                .filter(differs)
                .map(|f| ("as cron: ", f)),
        );
        for (prefix, finding) in all {
            if quiet && finding.verdict == Verdict::Ok {
                continue;
            }
            let word = match finding.verdict {
                Verdict::Ok => paint.green("ok  "),
                Verdict::Warn => paint.yellow("warn"),
                Verdict::Fail => paint.red("FAIL"),
            };
            // A parser's message has lines of its own.
            let fact = finding
                .fact
                .lines()
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" ");
            _ = writeln!(text, "{word} {prefix}{}: {fact}", finding.subject);
            if let Some(remedy) = &finding.remedy {
                _ = writeln!(text, "     {}", paint.dim(remedy));
            }
        }
        if quiet && text.is_empty() {
            return text;
        }
        let [ok, warn, fail] = self.counts();
        let warnings = plural(warn, "warning", "warnings");
        let line = format!("{fail} failed, {warn} {warnings}, {ok} ok");
        let line = match (fail, warn) {
            (0, 0) => paint.green(&line),
            (0, _) => paint.yellow(&line),
            _ => paint.red(&line),
        };
        _ = writeln!(text, "{line}");
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let [ok, warn, fail] = self.counts();
        let as_cron: Vec<Finding> = self
            .as_cron
            .iter()
            .map(|f| Finding {
                subject: format!("as cron: {}", f.subject),
                ..f.clone()
            })
            .collect();
        json!({
            "version": JSON_VERSION,
            "command": "doctor",
            "exit": self.exit() as u8,
            "time": self.time.to_rfc3339(),
            "findings": self.findings.iter().chain(&as_cron).collect::<Vec<_>>(),
            "ok": ok,
            "warn": warn,
            "fail": fail,
        })
    }

    /// What the command says in the end.
    pub fn output(&self, ui: &Ui) -> Output {
        let quiet = ui.verbosity == Verbosity::Quiet;
        Output::new(self.text(ui.colour, quiet), self.json()).ending(self.exit(), Vec::new())
    }

    /// Of what is shown: ok, warnings, failures.
    fn counts(&self) -> [u64; 3] {
        let differs = |f: &&Finding| !self.findings.contains(f);
        let all = || {
            self.findings
                .iter()
                .chain(self.as_cron.iter().filter(differs))
        };
        [Verdict::Ok, Verdict::Warn, Verdict::Fail]
            .map(|verdict| all().filter(|f| f.verdict == verdict).count() as u64)
    }
}

//! What a doctor says.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::doctor::{Finding, Report, Severity};
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::paint::Paint;
use crate::terminal::ui::{Ui, Verbosity};
use crate::words::plural;

impl Report {
    /// A line each, the remedy below what is not well; under `quiet` only that.
    pub fn text(&self, colour: bool, quiet: bool) -> String {
        let paint = Paint(colour);
        let mut text = String::new();
        let mut shown: Vec<(&str, &Finding)> = self.findings.iter().map(|f| ("", f)).collect();
        shown.extend(self.different().map(|f| ("as cron: ", f)));
        shown.retain(|(_, f)| !quiet || f.verdict != Severity::Ok);
        for (nth, (prefix, finding)) in shown.iter().enumerate() {
            let word = match finding.verdict {
                Severity::Ok => paint.green("ok  "),
                Severity::Warn => paint.yellow("warn"),
                Severity::Fail => paint.red("FAIL"),
            };
            // A parser's message has lines of its own.
            let fact = finding
                .fact
                .lines()
                .map(str::trim)
                .collect::<Vec<_>>()
                .join(" ");
            _ = writeln!(text, "{word} {prefix}{}: {fact}", finding.subject);
            // What all of a row ask for is said once, below the last of them.
            let next = shown.get(nth + 1).and_then(|(_, f)| f.remedy.as_ref());
            if let Some(remedy) = finding.remedy.as_ref().filter(|r| Some(*r) != next) {
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

    /// What cron's environment makes different: free bytes come and go, and are no news.
    fn different(&self) -> impl Iterator<Item = &Finding> {
        let said = |f: &Finding| {
            self.findings.iter().any(|first| match f.verdict {
                Severity::Ok => first.verdict == Severity::Ok && first.subject == f.subject,
                _ => first == f,
            })
        };
        self.as_cron.iter().filter(move |f| !said(f))
    }

    /// Of what is shown: ok, warnings, failures.
    fn counts(&self) -> [u64; 3] {
        let all = || self.findings.iter().chain(self.different());
        [Severity::Ok, Severity::Warn, Severity::Fail]
            .map(|verdict| all().filter(|f| f.verdict == verdict).count() as u64)
    }
}

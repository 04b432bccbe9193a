//! What a doctor says.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::doctor::{Finding, Report, Severity};
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::paint::Paint;
use crate::terminal::ui::{Ui, Verbosity};
use crate::words::plural;

impl Report {
    /// The verdict, then a line for each warning and failure with its remedy below; what is in order only where
    /// everything is to be shown.
    pub fn text(&self, colour: bool, verbosity: Verbosity) -> String {
        let paint = Paint(colour);
        let mut shown: Vec<(&str, &Finding)> = self.findings.iter().map(|f| ("", f)).collect();
        shown.extend(self.different().map(|f| ("as cron: ", f)));
        if verbosity != Verbosity::Verbose {
            shown.retain(|(_, f)| f.verdict != Severity::Ok);
        }
        if verbosity == Verbosity::Quiet && shown.is_empty() {
            return String::new();
        }
        let mut text = self.verdict(paint);
        // One line for all that the same failure is in the way of, where the first of them stands.
        let reason = |f: &Finding| f.skipped.then(|| f.fact.clone());
        let mut told: Vec<String> = Vec::new();
        for nth in 0..shown.len() {
            let (prefix, finding) = shown[nth];
            if let Some(reason) = reason(finding) {
                if !told.contains(&reason) {
                    let all = shown.iter().filter(|(_, f)| f.skipped && f.fact == reason);
                    let subjects: Vec<_> = all.map(|(_, f)| f.subject.as_str()).collect();
                    let word = paint.yellow("skip");
                    _ = writeln!(text, "{word} {}: {reason}", subjects.join(", "));
                    told.push(reason);
                }
                continue;
            }
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
        if !self.as_cron.is_empty() && self.different().next().is_none() {
            text += "with cron's environment: no difference\n";
        }
        text
    }

    /// How many failed, in one line.
    fn verdict(&self, paint: Paint) -> String {
        let [ok, warn, fail] = self.counts();
        let all = self.findings.iter().chain(self.different());
        let skipped = all.filter(|f| f.skipped).count() as u64;
        let warn = warn - skipped;
        let warnings = plural(warn, "warning", "warnings");
        let mut line = format!("{fail} failed, {warn} {warnings}, {ok} ok");
        if skipped > 0 {
            line += &format!(", {skipped} skipped");
        }
        let line = match (fail, warn) {
            (0, 0) => paint.green(&line),
            (0, _) => paint.yellow(&line),
            _ => paint.red(&line),
        };
        format!("{line}\n")
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
        let text = self.text(ui.colour, ui.verbosity);
        Output::new(text, self.json()).ending(self.exit(), Vec::new())
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

//! What `forget` says of a retention plan.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::commands::forget::Report;
use crate::commands::prune;
use crate::exit::Exit;
use crate::policy::retention::Plan;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::paint::Paint;

impl Report {
    /// What the command says in the end.
    pub fn output(&self, colour: bool) -> Output {
        let mut text = plan_text(&self.applied.plan, colour);
        let done = self.applied.postponed.is_none() && !self.dry_run;
        let mut json = plan_json(&self.applied.plan, done);
        json["repository"] = json!({ "location": self.location });
        text += &format!("repository {}\n", self.location);
        if let Some(why) = &self.applied.postponed {
            text += &format!("nothing was removed: retention is postponed, {why}\n");
            json["postponed"] = why.as_str().into();
        }
        if let Some(pruned) = &self.pruned {
            text += &format!("{}\n", prune::line(pruned));
            json["pruned"] = serde_json::to_value(pruned).unwrap_or_default();
        }
        if self.dry_run && self.applied.postponed.is_none() {
            text += "nothing was changed (--dry-run)\n";
            return Output::new(text, json);
        }
        let warning = self
            .unmatched
            .as_ref()
            .map(|fact| format!("warning: {fact}"));
        let exit = match warning {
            Some(_) => Exit::Incomplete,
            None => Exit::Complete,
        };
        Output::done(text, json).ending(exit, warning.into_iter().collect())
    }
}

/// A retention plan for a terminal.
fn plan_text(plan: &Plan, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    let mut series = "";
    for decision in &plan.decisions {
        if decision.snapshot.series != series {
            series = &decision.snapshot.series;
            _ = writeln!(text, "{}", paint.bold(series));
        }
        let verdict = if decision.keep {
            paint.green("keep  ")
        } else {
            paint.red("remove")
        };
        _ = writeln!(
            text,
            "  {verdict}  {}  {}",
            decision.snapshot,
            decision
                .reasons
                .iter()
                .map(|reason| in_words(reason))
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    text
}

/// The engine names its rules in a word each.
fn in_words(reason: &str) -> &str {
    match reason {
        "within" => "younger than `keep-within`",
        "daily" => "newest of its day",
        "weekly" => "newest of its week",
        "monthly" => "newest of its month",
        reason => reason,
    }
}

/// A retention plan for programs.
fn plan_json(plan: &Plan, applied: bool) -> Value {
    json!({
        "version": JSON_VERSION,
        "command": "forget",
        "applied": applied,
        "snapshots": plan.decisions.iter().map(|d| json!({
            "id": d.snapshot.id.to_hex().to_string(),
            "time": d.snapshot.time.to_rfc3339(),
            "series": d.snapshot.series,
            "tags": d.snapshot.tags,
            "keep": d.keep,
            "reasons": d.reasons,
        })).collect::<Vec<_>>(),
    })
}

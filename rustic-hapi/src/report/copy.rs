//! What copying says: one line where all is well, and what to do where it is not. The main snapshot is saved in
//! any case, and that is said, too.

use serde_json::{Value, json};

use crate::commands::copy::{Report, hex_ids};
use crate::exit::Exit;
use crate::terminal::call::Call;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::words::{by_restic, bytes, plural};

/// That snapshots of a copy are lost, if any are, and what to do about it.
pub(super) fn lost(name: &str, ids: &[String]) -> Option<String> {
    let short: Vec<_> = ids.iter().filter_map(|id| id.get(..8)).collect();
    let of_copy = Call::default().of_copy(name);
    (!short.is_empty()).then(|| {
        of_copy.complete(&format!(
            "the copy `{name}` lost data of {} that the main repository does not have either: {}; {} removes what cannot be restored whole any more",
            plural(short.len() as u64, "a snapshot", "snapshots"),
            short.join(", "),
            format_args!(by_restic!("forget {}"), short.join(" "))
        ))
    })
}

impl Report {
    /// What the command says in the end.
    pub fn output(&self) -> Output {
        let line = self.line();
        Output::done(format!("{line}\n"), self.json())
            .in_short(line)
            .ending(self.exit(), self.complaints())
    }

    fn line(&self) -> String {
        let place = format!("copy `{}` ({})", self.name, self.location);
        if self.failed.is_some() {
            return format!("{place}: not up to date");
        }
        let mut parts = vec![match self.copied.len() as u64 {
            0 if self.looked && self.lacking.is_empty() => "up to date".to_owned(),
            0 => "nothing copied".to_owned(),
            n => format!(
                "{n} {} copied, {} sent, verified",
                plural(n, "snapshot", "snapshots"),
                bytes(self.copied.iter().map(|c| c.sent).sum())
            ),
        }];
        let left = self.lacking.len() as u64;
        if self.gave_way && left > 0 {
            parts.push(format!(
                "{left} more {} with the next run",
                plural(left, "follows", "follow")
            ));
        }
        if let Some(Ok(applied)) = &self.retention {
            match applied.removed.len() as u64 {
                0 => {}
                n => parts.push(format!("retention removed {n}")),
            }
        }
        format!("{place}: {}", parts.join("; "))
    }

    fn complaints(&self) -> Vec<String> {
        let name = &self.name;
        let mut lines = Vec::new();
        if let Some(error) = &self.failed {
            let advice = self.advice();
            let error_text = advice.complete(&error.to_string());
            lines.push(format!(
                "error: the copy `{name}` is not up to date: {error_text}"
            ));
            let hint = error.hint().map(|hint| advice.complete(&hint));
            lines.extend(hint.map(|hint| format!("hint: {hint}")));
        }
        if self.lacks_the_newest() {
            lines.push(format!(
                "error: the copy `{name}` does not have the newest snapshot yet: the next run is due, and goes on with it"
            ));
        }
        for flawed in &self.flawed {
            lines.push(format!(
                "error: a snapshot is not whole in the main repository, and was not copied: {flawed}"
            ));
        }
        if !self.flawed.is_empty() {
            lines.push(
                "hint: `rustic-hapi check --from main --read-data` reports what is damaged"
                    .to_owned(),
            );
        }
        lines.extend(lost(name, &hex_ids(&self.lost)).map(|line| format!("error: {line}")));
        if let Some(Err(error)) = &self.retention {
            lines.push(format!(
                "error: retention was not applied to the copy `{name}`: {error}"
            ));
            lines.extend(error.hint().map(|hint| format!("hint: {hint}")));
        }
        if let Some(Ok(applied)) = &self.retention
            && let Some(why) = &applied.postponed
        {
            lines.push(format!(
                "note: retention of the copy `{name}` is postponed: {why}"
            ));
        }
        if self.exit() != Exit::Complete {
            lines.push(
                "note: the snapshot in the main repository is saved; the next run copies what is missing and still there"
                    .to_owned(),
            );
        }
        let warnings = self.warnings.iter();
        lines.extend(warnings.map(|warning| format!("warning: copy `{name}`: {warning}")));
        lines
    }

    fn json(&self) -> Value {
        json!({
            "version": JSON_VERSION,
            "command": "copy",
            "exit": self.exit() as u8,
            "copy": self.name,
            "repository": { "location": self.location, "id": self.repository },
            "copied": self.copied.iter().map(|c| json!({
                "id": c.id,
                "original": c.snapshot.id.to_hex().to_string(),
                "series": c.snapshot.series,
                "time": c.snapshot.time.to_rfc3339(),
                "sent": c.sent,
            })).collect::<Vec<_>>(),
            "lacking": self.lacking.len(),
            "lost": hex_ids(&self.lost),
            "gave-way": self.gave_way,
            "error": self.failed.as_ref().map(ToString::to_string),
            "removed": self.retention.as_ref().and_then(|r| r.as_ref().ok()).map(|a| a.removed.len()),
            "warnings": self.warnings,
        })
    }
}

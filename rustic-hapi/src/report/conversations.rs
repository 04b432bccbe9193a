//! What `sessions` and `export` say. Titles and paths are words of others: a terminal is given one line of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::commands::conversations::origin::Place;
use crate::commands::export::Report;
use crate::commands::sessions::{Listed, Listing};
use crate::conversation::export::Format;
use crate::conversation::plain::one_line;
use crate::conversation::renderer::local;
use crate::exit::Exit;
use crate::policy::choice::Which;
use crate::policy::manifest::PathRecord;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::paint::Paint;
use crate::words::bytes;

impl Listing {
    /// What the command says in the end.
    pub fn output(&self, colour: bool) -> Output {
        let exit = match (self.unread, self.unreadable) {
            (0, 0) => Exit::Complete,
            _ => Exit::Incomplete,
        };
        let json = json!({
            "version": JSON_VERSION,
            "command": "sessions",
            "exit": exit as u8,
            "sessions": self.sessions.iter().map(Listed::json).collect::<Vec<_>>(),
            "unreadable": self.unreadable,
            "unread": self.unread,
            "warnings": self.warnings,
        });
        let text = self.text(Paint(colour));
        let mut complaints = warnings(&self.warnings);
        complaints.extend(self.incomplete());
        Output::new(text, json).ending(exit, complaints)
    }

    /// What is missing in it.
    fn incomplete(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.unread > 0 {
            lines.push(format!("error: {} could not be read", self.unread()));
            lines.push("hint: `rustic-hapi check` says what is damaged".to_owned());
        }
        if let Some(id) = &self.unreadable_in {
            let messages = messages(self.unreadable);
            lines.push(format!(
                "error: {messages} could not be read, so the search did not see {}",
                if self.unreadable == 1 { "it" } else { "them" },
            ));
            let id = crate::machine::shell::quoted(&one_line(id, 64));
            let from = match &self.place {
                Place::AllSnapshots => " --all-snapshots".to_owned(),
                Place::Live => " --live".to_owned(),
                Place::Snapshot(Which::Named(name)) => format!(" --snapshot {name}"),
                Place::Snapshot(_) => String::new(),
            };
            lines.push(format!(
                "hint: `rustic-hapi export {id}{from} --format markdown` says why where each would be"
            ));
        }
        lines
    }

    fn unread(&self) -> String {
        match (&self.place, self.unread) {
            (Place::Live, 1) => "1 database".to_owned(),
            (Place::Live, several) => format!("{several} databases"),
            (_, several) => snapshots(several),
        }
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        let all = self.place == Place::AllSnapshots;
        let place = match (all, self.origins.as_slice()) {
            (false, [one]) => one.clone(),
            (false, several) => several.join(", "),
            (true, searched) => snapshots(searched.len() as u64),
        };
        if self.sessions.is_empty() {
            let mut lost = Vec::new();
            if self.unread > 0 {
                lost.push(self.unread());
            }
            if self.unreadable > 0 {
                lost.push(messages(self.unreadable));
            }
            let lost = match lost.as_slice() {
                [] => String::new(),
                lost => format!("; {} could not be read", lost.join(" and ")),
            };
            return match &self.search {
                Some(search) => {
                    let search = one_line(search, 60);
                    format!("no session in {place} has “{search}”{lost}\n")
                }
                None => format!("no sessions in {place}{lost}\n"),
            };
        }
        let agents = self
            .sessions
            .iter()
            .map(|one| one_line(one.session.agent(), 10));
        let width = agents
            .map(|agent| agent.chars().count())
            .max()
            .unwrap_or(0)
            .max(5);
        let digits = self.digits();
        _ = writeln!(
            text,
            "{:digits$}  {:16}  {:>8}  {:width$}  {}",
            "id",
            "last message",
            "messages",
            "agent",
            if all {
                "title, folder, snapshot"
            } else {
                "title, folder"
            },
        );
        for one in &self.sessions {
            let session = &one.session;
            let id: String = one_line(&session.id, 36).chars().take(digits).collect();
            let agent = one_line(session.agent(), 10);
            _ = write!(
                text,
                "{id:digits$}  {:16}  {:>8}  {agent:width$}  {}",
                minute(session.last.or(session.created_at)),
                session.messages,
                paint.bold(&one_line(session.title(), 60)),
            );
            let project = one_line(session.project(), 60);
            if !project.is_empty() {
                _ = write!(text, "  {}", paint.dim(&project));
            }
            if let Some(snapshot) = one.origin.snapshot.as_ref().filter(|_| all) {
                _ = write!(text, "  [{}]", snapshot.short_id());
            }
            text.push('\n');
            if let Some(hits) = one.hits.as_ref().filter(|hits| hits.messages > 0) {
                let count = messages(hits.messages);
                let excerpt = hits.excerpt.as_deref().unwrap_or_default();
                _ = writeln!(text, "          {count}: {}", paint.dim(excerpt));
            }
        }
        text
    }
}

impl Listing {
    /// As many of each id as tell them apart, 8 at least.
    fn digits(&self) -> usize {
        let ids = self
            .sessions
            .iter()
            .map(|one| one_line(&one.session.id, 36));
        let ids: BTreeSet<String> = ids.collect();
        let tell_apart = |digits: &usize| {
            let short = ids.iter().map(|id| id.chars().take(*digits).collect());
            short.collect::<BTreeSet<String>>().len() == ids.len()
        };
        (8..36).find(tell_apart).unwrap_or(36)
    }
}

impl Listed {
    fn json(&self) -> Value {
        let session = &self.session;
        let hits = self.hits.as_ref();
        json!({
            "id": session.id,
            "title": session.title(),
            "project": session.project(),
            "agent": session.agent(),
            "messages": session.messages,
            "created": rfc3339(session.created_at),
            "first": rfc3339(session.first),
            "last": rfc3339(session.last),
            "snapshot": self.origin.snapshot.as_ref().map(|s| s.id.to_hex().to_string()),
            "database": PathRecord::from(&self.origin.path),
            "hits": hits.map(|hits| hits.messages),
            "excerpt": hits.and_then(|hits| hits.excerpt.as_deref()),
        })
    }
}

impl Report {
    /// What the command says in the end; nothing on standard output where the conversation went there.
    pub fn output(&self) -> Output {
        let session = &self.session;
        let exit = match self.unreadable {
            0 => Exit::Complete,
            _ => Exit::Failed,
        };
        let json = json!({
            "version": JSON_VERSION,
            "command": "export",
            "exit": exit as u8,
            "session": session.id,
            "title": session.title(),
            "snapshot": self.origin.snapshot.as_ref().map(|s| s.id.to_hex().to_string()),
            "format": match self.format {
                Format::Html => "html",
                Format::Markdown => "markdown",
                Format::Json => "json",
            },
            "output": self.output.as_ref().map(PathRecord::from),
            "messages": self.messages,
            "unreadable": self.unreadable,
            "bytes": self.bytes,
            "seconds": self.took.as_secs_f64(),
            "warnings": self.warnings,
        });
        let output = match &self.output {
            Some(path) => Output::done(
                format!(
                    "{}: {} messages, {}, from {}\n",
                    path.display(),
                    self.messages,
                    bytes(self.bytes),
                    self.origin.in_words()
                ),
                json,
            ),
            None => Output::verbatim(String::new(), json),
        };
        let mut complaints = warnings(&self.warnings);
        if self.unreadable > 0 {
            complaints.push(format!(
                "error: {} of {} messages could not be read; the export says why where each would be{}",
                self.unreadable,
                self.messages,
                if self.format == Format::Json { " (JSON has null there)" } else { "" },
            ));
            complaints.push(format!(
                "hint: an older snapshot may have them: `rustic-hapi sessions --all-snapshots`, then `rustic-hapi export {} --snapshot ID`",
                crate::machine::shell::quoted(&one_line(&session.id, 64)),
            ));
        }
        output.ending(exit, complaints)
    }
}

fn snapshots(count: u64) -> String {
    match count {
        1 => "1 snapshot".to_owned(),
        several => format!("{several} snapshots"),
    }
}

fn messages(count: u64) -> String {
    match count {
        1 => "1 message".to_owned(),
        several => format!("{several} messages"),
    }
}

fn minute(milliseconds: Option<i64>) -> String {
    let time = local(milliseconds).map(|time| time.format("%Y-%m-%d %H:%M").to_string());
    time.unwrap_or_else(|| "-".to_owned())
}

fn rfc3339(milliseconds: Option<i64>) -> Option<String> {
    Some(local(milliseconds)?.to_rfc3339())
}

fn warnings(warnings: &[String]) -> Vec<String> {
    warnings.iter().map(|w| format!("warning: {w}")).collect()
}

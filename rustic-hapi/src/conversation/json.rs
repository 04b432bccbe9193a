//! JSON as the hub's own export has it, schema version 2, with what that leaves out: messages that wait, and those that
//! the hub does not show. Contents are written as they are stored.

use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::plain::acts;
use super::renderer::{Conversation, Renderer};
use super::session::Note;
use super::stored::{Content, Message};

/// The version that hub 0.30.7 writes.
const SCHEMA_VERSION: u32 = 2;

#[derive(Default)]
pub(crate) struct Json {
    is_first: Option<()>,
    notes: Vec<Value>,
}

impl Renderer for Json {
    fn begin(&mut self, of: &Conversation<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.notes = of.notes.iter().map(note).collect();
        self.is_first = Some(());
        let exported_at = of.exported_at.timestamp_millis();
        let session = of.session.exported().to_string();
        let session = shown(&session);
        write!(
            out,
            "{{\"schemaVersion\":{SCHEMA_VERSION},\"exportedAt\":{exported_at},\"session\":{session},\"messages\":["
        )
    }

    fn message(&mut self, message: &Message, out: &mut dyn Write) -> io::Result<()> {
        // A hub has null for what it cannot read.
        let content = match &message.content {
            Content::Json(json) => json.clone(),
            Content::Text(_) | Content::Unreadable(_) | Content::RestUnreadable(_) => {
                "null".to_owned()
            }
        };
        let comma = if self.is_first.take().is_some() {
            ""
        } else {
            ","
        };
        let (id, seq, local_id) = (
            json!(message.id),
            json!(message.seq),
            json!(message.local_id),
        );
        let created_at = json!(message.created_at.unwrap_or(0));
        let (invoked, scheduled) = (json!(message.invoked_at), json!(message.scheduled_at));
        let delivery = match message.delivery {
            Some(_) => ",\"deliveryState\":\"indeterminate\"",
            None => "",
        };
        let line = format!(
            "{comma}\n{{\"id\":{id},\"seq\":{seq},\"localId\":{local_id},\"content\":{content},\"createdAt\":{created_at},\"invokedAt\":{invoked},\"scheduledAt\":{scheduled}{delivery}}}"
        );
        out.write_all(shown(&line).as_bytes())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let notes = Value::Array(std::mem::take(&mut self.notes)).to_string();
        let notes = shown(&notes);
        writeln!(out, "\n],\"scratchlist\":{notes}}}")
    }
}

fn note(note: &Note) -> Value {
    json!({
        "entryId": note.id,
        "text": note.text,
        "createdAt": note.created_at.unwrap_or(0),
        "updatedAt": note.updated_at.unwrap_or(0),
        "attachments": note.attachments,
    })
}

/// The same JSON, with escapes for what a terminal would act on: in valid JSON such a character can only be in a string,
/// but for line breaks and tabs, which mean nothing there.
fn shown(json: &str) -> Cow<'_, str> {
    let acts = |c: char| acts(c) && c != '\r';
    if !json.contains(acts) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        match acts(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_escaped_and_means_the_same() {
        let value = json!({ "a": "x\u{9b}31m\u{202e}y\x7f\n😀" });
        let written = shown(&value.to_string()).into_owned();
        assert!(
            written.contains("\\u009b31m\\u202ey\\u007f\\n😀"),
            "{written}"
        );
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
    }
}

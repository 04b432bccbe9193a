//! What is said: a message as a reader sees it, whatever format it came in.

use serde_json::Value;

use super::fold::Fold;

/// Who says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Person,
    Agent,
    /// Nobody: something happened.
    Event,
    /// Another role.
    Other(String),
}

/// One message as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) who: Who,
    /// Whether it belongs to a conversation beside this one, with a subagent.
    pub(super) is_aside: bool,
    pub(super) parts: Vec<Part>,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Markdown.
    Prose(String),
    /// Words as they were typed.
    Typed(String),
    /// What happened, in a line.
    Line(String),
    /// A file that came with it: its name, and what is known of it.
    File(String, String),
    Fold(Fold),
}

impl Said {
    pub(super) fn new(who: Who, parts: Vec<Part>) -> Self {
        Self {
            who,
            is_aside: false,
            parts,
        }
    }

    pub(super) fn event(part: Part) -> Self {
        Self::new(Who::Event, vec![part])
    }
}

/// An attachment's name, and what is known of it. Its bytes are not in the database.
pub(super) fn file(attachment: &Value) -> Part {
    let name = attachment["filename"].as_str().unwrap_or("a file");
    let kind = attachment["mimeType"].as_str();
    let size = attachment["size"].as_u64().map(crate::words::bytes);
    let known: Vec<String> = kind.map(str::to_owned).into_iter().chain(size).collect();
    Part::File(name.to_owned(), known.join(", "))
}

//! A search for words in what was said: in every string of a message, whatever its kind.

use std::convert::Infallible;

use serde_json::Value;

use super::database::Database;
use super::plain::one_line;
use super::session::Session;
use super::stored::Content;

/// Characters of the text around a hit.
const AROUND: usize = 40;

/// What a search found in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits {
    /// Messages that have it.
    pub messages: u64,
    /// The first place, in one line.
    pub excerpt: Option<String>,
}

/// What came of a search in a session.
pub(crate) struct Searched {
    /// What it found; `None` where the words are neither in the names nor in a message that can be read.
    pub(crate) hits: Option<Hits>,
    /// Messages that cannot be read.
    pub(crate) unread: u64,
}

/// Words that are looked for, whatever their case.
pub(crate) struct Needle(String);

impl Needle {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_lowercase())
    }

    /// Looks for it in the names of a session and in its messages.
    pub(crate) fn in_session(&self, database: &Database, session: &Session) -> Searched {
        let named = [session.title(), session.project(), &session.id];
        let is_named = named.iter().any(|text| self.place(text).is_some());
        let mut hits = Hits {
            messages: 0,
            excerpt: None,
        };
        let (mut read, mut unread) = (0, 0);
        let Ok(()) = database.messages::<Infallible>(&session.id, &mut |message| {
            read += 1;
            let excerpt = match (&message.content, message.value()) {
                (_, Some(value)) => self.in_value(&value),
                (Content::Json(text) | Content::Text(text), None) => self.excerpt(text),
                (Content::Unreadable(_) | Content::RestUnreadable(_), None) => {
                    unread += message.stands_for(read, session.messages);
                    None
                }
            };
            hits.messages += u64::from(excerpt.is_some());
            hits.excerpt = hits.excerpt.take().or(excerpt);
            Ok(true)
        });
        Searched {
            hits: (is_named || hits.messages > 0).then_some(hits),
            unread,
        }
    }

    fn in_value(&self, value: &Value) -> Option<String> {
        match value {
            Value::String(text) => self.excerpt(text),
            Value::Array(values) => values.iter().find_map(|value| self.in_value(value)),
            Value::Object(fields) => fields.values().find_map(|value| self.in_value(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    fn excerpt(&self, text: &str) -> Option<String> {
        let at = self.place(text)?;
        // Lower case may be longer or shorter: the place is about right, and only shown.
        let before = text.char_indices().rev().filter(|(i, _)| *i <= at);
        let from = before.take(AROUND).last().map_or(0, |(i, _)| i);
        let around: String = text[from..].chars().take(3 * AROUND).collect();
        let line = one_line(&around, 2 * AROUND + self.0.chars().count());
        Some(if from > 0 { format!("…{line}") } else { line })
    }

    /// Where it is, in bytes of the text in lower case.
    fn place(&self, text: &str) -> Option<usize> {
        text.to_lowercase().find(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_in_whatever_case_and_shown_with_what_is_around_it() {
        let needle = Needle::new("PARSER");
        let value = serde_json::json!({ "a": [1, { "b": "the\nParser\x1b[2J broke" }] });
        assert_eq!(
            needle.in_value(&value).as_deref(),
            Some("the Parser[2J broke")
        );
        assert_eq!(needle.in_value(&serde_json::json!(["pars", "er"])), None);
        let long = format!("{} parser {}", "İ".repeat(500), "b".repeat(500));
        assert!(
            needle
                .excerpt(&long)
                .is_some_and(|line| line.chars().count() < 100)
        );
    }
}

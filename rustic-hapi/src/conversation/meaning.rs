//! The meaning of a message: who says it, and what it is made of. What nobody knows is folded JSON; nothing is left out.
//!
//! The shapes are those of hub 0.30.7. A person's message is `{role: "user", content: {type: "text", text}}`; an agent's
//! is `{role: "agent", content: {type, data}}`, where `output` is Claude's own stream, `codex` what every other agent is
//! translated into, and `event` what the hub and its runner report.

mod codex;
mod event;
mod output;

use serde_json::Value;

use super::fold::{Fold, Kind};
use super::said::{Part, Said, Who, file};
use super::stored::{Content, Message};

/// What a message says.
pub(super) fn of(message: &Message) -> Said {
    match (&message.content, message.value()) {
        (_, Some(value)) => in_json(&value),
        (Content::Json(text) | Content::Text(text), None) => {
            Said::event(Part::Fold(Fold::text(Kind::Other, "not JSON", text)))
        }
        (Content::Unreadable(reason) | Content::RestUnreadable(reason), None) => {
            Said::event(Part::Line(format!("This message cannot be read: {reason}")))
        }
    }
}

fn in_json(value: &Value) -> Said {
    let Some((role, content)) = record(value) else {
        return Said::event(Part::Fold(Fold::json("message", value)));
    };
    match role {
        "user" => Said::new(Who::Person, typed(content)),
        "agent" => match (content["type"].as_str(), &content["data"]) {
            (Some("output"), data @ Value::Object(_)) => output::said(data),
            (Some("codex"), data @ Value::Object(_)) => codex::said(data),
            (Some("event"), data @ Value::Object(_)) => event::said(data),
            _ => Said::new(Who::Agent, prose(content)),
        },
        "assistant" => Said::new(Who::Agent, prose(content)),
        other => Said::new(Who::Other(other.to_owned()), prose(content)),
    }
}

/// Role and content of a message, where a hub finds them.
fn record(value: &Value) -> Option<(&str, &Value)> {
    let wrapped = [
        value,
        &value["message"],
        &value["data"]["message"],
        &value["payload"]["message"],
    ];
    wrapped
        .into_iter()
        .find_map(|value| Some((value["role"].as_str()?, value.get("content")?)))
}

/// What a person typed, with the names of what was attached.
fn typed(content: &Value) -> Vec<Part> {
    let Some(text) = text_of(content) else {
        return vec![Part::Fold(Fold::json("message", content))];
    };
    let mut parts = vec![Part::Typed(text.to_owned())];
    let attachments = content["attachments"].as_array();
    parts.extend(attachments.into_iter().flatten().map(file));
    parts
}

fn prose(content: &Value) -> Vec<Part> {
    match text_of(content) {
        Some(text) => vec![Part::Prose(text.to_owned())],
        None => {
            let title = content["type"].as_str().unwrap_or("message");
            vec![Part::Fold(Fold::json(title, content))]
        }
    }
}

fn text_of(content: &Value) -> Option<&str> {
    let text = || {
        content["text"]
            .as_str()
            .filter(|_| content["type"] == "text")
    };
    content.as_str().or_else(text)
}

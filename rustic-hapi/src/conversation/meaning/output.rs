//! Claude's own stream, as its command line writes it, and Antigravity's entries, which come the same way.

use serde_json::Value;

use super::super::fold::{Fold, Kind};
use super::super::said::{Part, Said, Who};
use super::event;

/// What one entry of the stream says.
pub(super) fn said(data: &Value) -> Said {
    let is_aside = data["isSidechain"] == true;
    // What the program told its agent, and a hub does not show.
    for (mark, title) in [
        ("isMeta", "note to the agent"),
        ("isCompactSummary", "summary for the agent"),
    ] {
        if data[mark] == true {
            return Said::event(Part::Fold(Fold::json(title, data)));
        }
    }
    let content = &data["message"]["content"];
    let mut said = match data["type"].as_str().unwrap_or_default() {
        "assistant" => Said::new(Who::Agent, blocks(content, data)),
        "user" => of_user(content, data),
        "summary" => match data["summary"].as_str() {
            Some(text) => Said::event(Part::Line(format!("Summary: {text}"))),
            None => unknown("summary", data),
        },
        "system" => event::of_system(data),
        "agy_message" => match data["content"].as_str() {
            Some(text) => Said::new(Who::Agent, vec![Part::Prose(text.to_owned())]),
            None => unknown("agy_message", data),
        },
        "agy_tool_action" => {
            let name = data["toolName"].as_str().or(data["name"].as_str());
            let call = Fold::call(name.unwrap_or("tool"), data.get("input"));
            let failed = data["name"] == "ERROR_MESSAGE";
            let result = Fold::result(&data["content"], failed);
            Said::new(Who::Agent, vec![Part::Fold(call), Part::Fold(result)])
        }
        kind => unknown(if kind.is_empty() { "output" } else { kind }, data),
    };
    said.is_aside = is_aside;
    said
}

/// What comes as a user's is seldom one's: results of tools, prompts of subagents, reminders of the program.
fn of_user(content: &Value, data: &Value) -> Said {
    if let Some(text) = content.as_str() {
        let fold = Fold::text(Kind::Other, "prompt by the program", text);
        return Said::new(Who::Agent, vec![Part::Fold(fold)]);
    }
    let texts = content.as_array().filter(|_| data["isSidechain"] != true);
    let texts = texts.and_then(|blocks| {
        let text = |block: &Value| {
            let text = block["text"].as_str().filter(|_| block["type"] == "text");
            text.map(str::to_owned)
        };
        blocks.iter().map(text).collect::<Option<Vec<_>>>()
    });
    match texts {
        Some(texts) if !texts.is_empty() => {
            Said::new(Who::Person, texts.into_iter().map(Part::Typed).collect())
        }
        _ => Said::new(Who::Agent, blocks(content, data)),
    }
}

/// The blocks of a message of Claude's.
fn blocks(content: &Value, data: &Value) -> Vec<Part> {
    if let Some(text) = content.as_str() {
        return vec![Part::Prose(text.to_owned())];
    }
    let Some(blocks) = content.as_array().filter(|blocks| !blocks.is_empty()) else {
        return vec![Part::Fold(Fold::json("output", data))];
    };
    let part = |block: &Value| match block["type"].as_str() {
        Some("text") if block["text"].is_string() => {
            Part::Prose(block["text"].as_str().unwrap_or_default().to_owned())
        }
        Some("thinking") if block["thinking"].is_string() => {
            let text = block["thinking"].as_str().unwrap_or_default();
            Part::Fold(Fold::text(Kind::Thought, "Thought", text))
        }
        Some("tool_use") => Part::Fold(Fold::call(
            block["name"].as_str().unwrap_or("tool"),
            block.get("input"),
        )),
        Some("tool_result") => {
            // Where the program keeps the result apart, the block may have only a mention of it.
            let result = match &block["content"] {
                Value::Null => &data["toolUseResult"],
                content => content,
            };
            Part::Fold(Fold::result(result, block["is_error"] == true))
        }
        kind => Part::Fold(Fold::json(kind.unwrap_or("block"), block)),
    };
    blocks.iter().map(part).collect()
}

fn unknown(title: &str, data: &Value) -> Said {
    Said::event(Part::Fold(Fold::json(title, data)))
}

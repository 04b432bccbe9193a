//! What every agent but Claude is translated into; Codex was the first.

use serde_json::Value;

use super::super::fold::{Fold, Kind};
use super::super::said::{Part, Said, Who};
use super::event;

/// What one entry says.
pub(super) fn said(data: &Value) -> Said {
    let text = data["message"].as_str();
    let agent = |part| Said::new(Who::Agent, vec![part]);
    match (data["type"].as_str().unwrap_or("codex"), text) {
        ("message", Some(text)) => agent(Part::Prose(text.to_owned())),
        ("reasoning", Some(text)) => agent(Part::Fold(Fold::text(Kind::Thought, "Thought", text))),
        ("error", Some(text)) => Said::event(Part::Line(format!("Error: {text}"))),
        ("tool-call", _) => {
            let name = data["name"].as_str().or(data["title"].as_str());
            agent(Part::Fold(Fold::call(
                name.unwrap_or("tool"),
                data.get("input"),
            )))
        }
        ("tool-call-result", _) => agent(Part::Fold(Fold::result(
            &data["output"],
            data["is_error"] == true,
        ))),
        ("plan" | "plan_update", _) => match plan(data) {
            Some(list) => agent(Part::Prose(list)),
            None => Said::event(Part::Fold(Fold::json("plan", data))),
        },
        ("generated-image", _) => {
            let name = data["fileName"].as_str().or(data["file_name"].as_str());
            let kind = data["mimeType"].as_str().or(data["mime_type"].as_str());
            agent(Part::File(
                name.unwrap_or("generated image").to_owned(),
                kind.unwrap_or_default().to_owned(),
            ))
        }
        ("context_compacted", _) => Said::event(Part::Line("Conversation compacted".to_owned())),
        _ => event::said(data),
    }
}

/// The steps of a plan, as a list of tasks in Markdown.
fn plan(data: &Value) -> Option<String> {
    let lists = ["entries", "plan", "items", "steps", "update"].map(|name| &data[name]);
    let steps = lists.into_iter().find_map(Value::as_array)?;
    let line = |step: &Value| {
        let names = ["step", "content", "text", "title", "description"];
        let text = step.as_str();
        let text = text.or_else(|| names.iter().find_map(|name| step[*name].as_str()))?;
        let state = step["status"].as_str().or(step["state"].as_str());
        let mark = match state {
            Some("completed" | "complete" | "done") => 'x',
            _ => ' ',
        };
        // One step is one line, whatever it holds.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(format!("- [{mark}] {text}"))
    };
    let lines = steps.iter().map(line).collect::<Option<Vec<_>>>()?;
    (!lines.is_empty()).then(|| lines.join("\n"))
}

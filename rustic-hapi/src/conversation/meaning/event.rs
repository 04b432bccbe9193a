//! What the hub, its runner or an agent's program reports of itself.

use serde_json::Value;

use super::super::fold::{Fold, Kind};
use super::super::said::{Part, Said};
use crate::words::duration;

/// An event in a line, where its kind is known.
pub(super) fn said(data: &Value) -> Said {
    let kind = data["type"].as_str().unwrap_or("event");
    let text = |name: &str| data[name].as_str();
    let line = match kind {
        "message" => text("message").map(str::to_owned),
        "error" => text("message").map(|text| format!("Error: {text}")),
        "switch" => text("mode").map(|mode| format!("Switched to {mode}")),
        "title-changed" => text("title").map(|title| format!("Title changed to “{title}”")),
        "permission-mode-changed" => text("mode").map(|mode| format!("Permission mode: {mode}")),
        "recap" => text("text").map(|text| format!("Recap: {text}")),
        "ready" => Some("Ready".to_owned()),
        "compact" => Some("Conversation compacted".to_owned()),
        "turn-duration" => turn(data),
        "thread_goal_updated" | "thread-goal-updated" => {
            let goal = data["goal"]["objective"].as_str();
            let status = data["goal"]["status"].as_str().unwrap_or("unknown");
            goal.map(|goal| format!("Goal ({status}): {goal}"))
        }
        "thread_goal_cleared" | "thread-goal-cleared" => Some("Goal cleared".to_owned()),
        "compact-summary" => {
            return match text("summary") {
                Some(text) => {
                    let fold = Fold::text(Kind::Other, "Context compacted", text);
                    Said::event(Part::Fold(fold))
                }
                None => unknown(kind, data),
            };
        }
        _ => None,
    };
    match line {
        Some(line) => Said::event(Part::Line(line)),
        None => unknown(kind, data),
    }
}

/// What Claude's program reports.
pub(super) fn of_system(data: &Value) -> Said {
    let kind = data["subtype"].as_str().unwrap_or("system");
    let line = match kind {
        "turn_duration" if data["resultSummary"].is_null() => turn(data),
        "away_summary" => data["content"]
            .as_str()
            .map(|text| format!("Recap: {text}")),
        "compact_boundary" => Some("Conversation compacted".to_owned()),
        "microcompact_boundary" => Some("Context compacted".to_owned()),
        _ => None,
    };
    match line {
        Some(line) => Said::event(Part::Line(line)),
        None => unknown(kind, data),
    }
}

fn turn(data: &Value) -> Option<String> {
    let took = std::time::Duration::from_millis(data["durationMs"].as_u64()?);
    Some(format!("This turn took {}", duration(took)))
}

fn unknown(title: &str, data: &Value) -> Said {
    Said::event(Part::Fold(Fold::json(title, data)))
}

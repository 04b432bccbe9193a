//! A fold is what a reader opens when it is wanted: a tool call, its result, a thought, JSON that nobody knows.

use serde_json::{Map, Value};

use super::plain::one_line;

/// Characters of the line that stands for what is folded.
const DIGEST: usize = 120;

/// What is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What an agent thought.
    Thought,
    /// A tool was called.
    Call,
    /// What it returned.
    Result,
    /// How it failed.
    Failure,
    /// Anything else.
    Other,
}

/// Something folded, with a line that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fold {
    pub(super) kind: Kind,
    pub(super) title: String,
    pub(super) digest: String,
    pub(super) blocks: Vec<Block>,
}

/// A text as it is, with its name where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) label: Option<String>,
    pub(super) text: String,
    /// Whether it is JSON.
    pub(super) is_json: bool,
}

impl Fold {
    /// JSON of a kind that nobody knows.
    pub(super) fn json(title: &str, value: &Value) -> Self {
        Self {
            kind: Kind::Other,
            title: title.to_owned(),
            digest: String::new(),
            blocks: vec![Block::json(value)],
        }
    }

    pub(super) fn text(kind: Kind, title: &str, text: &str) -> Self {
        Self {
            kind,
            title: title.to_owned(),
            digest: first_line(text),
            blocks: vec![Block::text(text)],
        }
    }

    /// A call of a tool: long texts of its input stand for themselves, the rest as JSON.
    pub(super) fn call(name: &str, input: Option<&Value>) -> Self {
        let mut blocks = Vec::new();
        match input {
            Some(Value::Object(fields)) => {
                let mut rest = Map::new();
                for (name, value) in fields {
                    match value
                        .as_str()
                        .filter(|text| text.contains('\n') || name == "command")
                    {
                        Some(text) => blocks.push(Block {
                            label: Some(name.clone()),
                            ..Block::text(text)
                        }),
                        None => _ = rest.insert(name.clone(), value.clone()),
                    }
                }
                // What is new is read after what it replaces.
                let is_new =
                    |block: &Block| block.label.as_ref().is_some_and(|l| l.contains("new"));
                blocks.sort_by_key(is_new);
                if !rest.is_empty() {
                    blocks.insert(0, Block::json(&Value::Object(rest)));
                }
            }
            Some(Value::String(text)) => blocks.push(Block::text(text)),
            None | Some(Value::Null) => {}
            Some(other) => blocks.push(Block::json(other)),
        }
        Self {
            kind: Kind::Call,
            title: name.to_owned(),
            digest: input.map(digest).unwrap_or_default(),
            blocks,
        }
    }

    /// What a tool returned: its text, where that is all there is to it.
    pub(super) fn result(output: &Value, failed: bool) -> Self {
        let (kind, title) = match failed {
            true => (Kind::Failure, "Tool error"),
            false => (Kind::Result, "Result"),
        };
        match text_of(output) {
            Some(text) => Self::text(kind, title, &text),
            None => Self {
                kind,
                ..Self::json(title, output)
            },
        }
    }
}

impl Block {
    fn text(text: &str) -> Self {
        Self {
            label: None,
            text: text.to_owned(),
            is_json: false,
        }
    }

    fn json(value: &Value) -> Self {
        Self {
            label: None,
            text: format!("{value:#}"),
            is_json: true,
        }
    }
}

/// The text of a tool's output: a string, or a list of nothing but texts.
fn text_of(output: &Value) -> Option<String> {
    match output {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Array(blocks) if !blocks.is_empty() => {
            let texts = blocks.iter().map(|block| match block {
                Value::String(text) => Some(text.as_str()),
                block if block["type"] == "text" => block["text"].as_str(),
                _ => None,
            });
            texts
                .collect::<Option<Vec<_>>>()
                .map(|texts| texts.join("\n"))
        }
        _ => None,
    }
}

/// What tells one call from another.
fn digest(input: &Value) -> String {
    const TELLING: [&str; 11] = [
        "description",
        "command",
        "cmd",
        "file_path",
        "path",
        "pattern",
        "query",
        "url",
        "title",
        "name",
        "prompt",
    ];
    if let Value::String(text) = input {
        return first_line(text);
    }
    let telling = TELLING.iter().find_map(|name| input[*name].as_str());
    telling.map(first_line).unwrap_or_default()
}

fn first_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty());
    one_line(line.unwrap_or_default(), DIGEST)
}

//! A session is one row of the hub's table `sessions`, with what its messages come to.

use rusqlite::Row;
use serde_json::{Map, Value, json};

use super::row::{number, text};

/// The columns that [`Session::of`] reads.
pub(super) const COLUMNS: [&str; 21] = [
    "id",
    "namespace",
    "seq",
    "created_at",
    "updated_at",
    "pinned",
    "global_pinned",
    "active",
    "active_at",
    "metadata",
    "metadata_version",
    "agent_state",
    "agent_state_version",
    "todos",
    "todos_updated_at",
    "team_state",
    "team_state_updated_at",
    "model",
    "model_reasoning_effort",
    "effort",
    "service_tier",
];

/// One session. What a list shows has fields; the rest is for the export.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at: Option<i64>,
    /// What its runner says of it: name, path, host, agent. Null where there is none.
    pub metadata: Value,
    /// Messages in all, those that wait included.
    pub messages: u64,
    /// Time of the first message.
    pub first: Option<i64>,
    /// Time of the last one.
    pub last: Option<i64>,
    export: Map<String, Value>,
}

/// One entry of a session's scratchlist: notes and drafts of the person.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) created_at: Option<i64>,
    pub(crate) updated_at: Option<i64>,
    pub(crate) attachments: Value,
}

impl Session {
    /// A row, as a hub's own export has it.
    pub(super) fn of(row: &Row<'_>) -> Self {
        let number = |at| number(row, at);
        let parsed = |at| text(row, at).and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let (created_at, updated_at) = (number(3), number(4));
        let metadata = parsed(9).filter(Value::is_object).unwrap_or(Value::Null);
        let mut export = Map::new();
        let mut set = |name: &str, value: Value| export.insert(name.to_owned(), value);
        set(
            "namespace",
            json!(text(row, 1).unwrap_or_else(|| "default".to_owned())),
        );
        set("seq", json!(number(2).unwrap_or(0)));
        set("createdAt", json!(created_at.unwrap_or(0)));
        set("updatedAt", json!(updated_at.unwrap_or(0)));
        set("pinned", json!(number(5) == Some(1)));
        set("globalPinned", json!(number(6) == Some(1)));
        // Nothing runs in a database at rest.
        set("active", json!(false));
        let active_at = number(8).or(updated_at).or(created_at);
        set("activeAt", json!(active_at.unwrap_or(0)));
        set("metadata", metadata.clone());
        set("metadataVersion", json!(number(10).unwrap_or(1)));
        set("agentState", parsed(11).unwrap_or(Value::Null));
        set("agentStateVersion", json!(number(12).unwrap_or(1)));
        set("thinking", json!(false));
        set("thinkingAt", json!(0));
        set("activeTurnStartedAt", Value::Null);
        set("backgroundTaskCount", json!(0));
        for (at, name) in [(13, "todos"), (15, "teamState")] {
            if let Some(value) = parsed(at).filter(|value| !value.is_null()) {
                set(name, value);
            }
        }
        set("todosUpdatedAt", json!(number(14).unwrap_or(0)));
        set("teamStateUpdatedAt", json!(number(16).unwrap_or(0)));
        for (at, name) in [
            (17, "model"),
            (18, "modelReasoningEffort"),
            (19, "effort"),
            (20, "serviceTier"),
        ] {
            set(name, json!(text(row, at)));
        }
        for (preferred, name) in [
            ("preferredPermissionMode", "permissionMode"),
            ("preferredCopilotAgentMode", "copilotAgentMode"),
        ] {
            if let Some(mode) = metadata[preferred].as_str() {
                set(name, json!(mode));
            }
        }
        Self {
            id: text(row, 0).unwrap_or_default(),
            created_at,
            metadata,
            export,
            ..Self::default()
        }
    }

    /// One whose row is gone, and whose messages are there.
    pub(super) fn of_messages_alone(id: String) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    /// What a hub's list calls it: the name, the summary, or the folder.
    pub fn title(&self) -> &str {
        let named = [&self.metadata["name"], &self.metadata["summary"]["text"]];
        let named = named.into_iter().filter_map(Value::as_str);
        let folder = self.project().rsplit('/').find(|part| !part.is_empty());
        let known = named
            .chain(folder)
            .map(str::trim)
            .find(|text| !text.is_empty());
        known.unwrap_or_else(|| self.id.get(..8).unwrap_or(&self.id))
    }

    /// The folder that the agent works in, or nothing.
    pub fn project(&self) -> &str {
        self.metadata["path"].as_str().unwrap_or_default()
    }

    /// Which agent it is, or nothing.
    pub fn agent(&self) -> &str {
        self.metadata["flavor"].as_str().unwrap_or_default()
    }

    /// The machine that the agent runs on, or nothing.
    pub(crate) fn host(&self) -> &str {
        self.metadata["host"].as_str().unwrap_or_default()
    }

    /// As a hub's own export has it.
    pub(super) fn exported(&self) -> Value {
        let mut export = self.export.clone();
        export.insert("id".to_owned(), json!(self.id));
        export.insert(
            "hasConversationContent".to_owned(),
            json!(self.messages > 0),
        );
        Value::Object(export)
    }
}

impl Note {
    /// The columns that [`Note::of`] reads.
    pub(super) const COLUMNS: [&'static str; 5] = [
        "entry_id",
        "text",
        "created_at",
        "updated_at",
        "attachments",
    ];

    pub(super) fn of(row: &Row<'_>) -> Self {
        let attachments = text(row, 4).and_then(|json| serde_json::from_str(&json).ok());
        Self {
            id: text(row, 0).unwrap_or_default(),
            text: text(row, 1).unwrap_or_default(),
            created_at: number(row, 2),
            updated_at: number(row, 3),
            attachments: attachments
                .filter(Value::is_array)
                .unwrap_or_else(|| json!([])),
        }
    }
}

//! A stored message is one row of the hub's table `messages`. Its content is JSON: as text where it is short, as a
//! zstd blob from 256 characters on.

use std::io::Read;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::row::{number, text};

/// Bytes that one message may have when it is decompressed. A hub takes 48 MiB at a time; a blob of a kilobyte may
/// claim to be a terabyte.
const LARGEST: u64 = 256 << 20;

/// The columns that [`Message::of`] reads.
pub(super) const COLUMNS: [&str; 9] = [
    "id",
    "seq",
    "local_id",
    "created_at",
    "invoked_at",
    "scheduled_at",
    "delivery_state",
    CONTENT,
    "session_id",
];

/// The column of what is said: without it there is nothing to read.
pub(super) const CONTENT: &str = "content";

/// One message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) seq: Option<i64>,
    pub(crate) local_id: Option<String>,
    /// Milliseconds since 1970, as all times of a hub.
    pub(crate) created_at: Option<i64>,
    pub(crate) invoked_at: Option<i64>,
    pub(crate) scheduled_at: Option<i64>,
    /// A hub's word for how a delivery stands; `queued` is the usual one.
    pub(crate) delivery: Option<String>,
    pub(crate) content: Content,
}

/// What a message says.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Valid JSON, as it was stored.
    Json(String),
    /// Text that is no JSON.
    Text(String),
    /// It cannot be read, and why.
    Unreadable(String),
    /// Neither this one nor any after it, and why.
    RestUnreadable(String),
}

impl Message {
    pub(super) fn of(row: &Row<'_>) -> Self {
        Self {
            id: text(row, 0).unwrap_or_default(),
            seq: number(row, 1),
            local_id: text(row, 2),
            created_at: number(row, 3),
            invoked_at: number(row, 4),
            scheduled_at: number(row, 5),
            delivery: text(row, 6).filter(|state| state != "queued"),
            content: match row.get_ref(7) {
                Ok(value) => Content::of(value),
                Err(error) => Content::Unreadable(error.to_string()),
            },
        }
    }

    /// Stands where reading the rest failed.
    pub(super) fn the_rest_is_lost(reason: String) -> Self {
        Self {
            id: String::new(),
            seq: None,
            local_id: None,
            created_at: None,
            invoked_at: None,
            scheduled_at: None,
            delivery: None,
            content: Content::RestUnreadable(reason),
        }
    }

    /// The time by which a hub orders messages.
    pub(crate) fn time(&self) -> Option<i64> {
        self.invoked_at.or(self.created_at)
    }

    /// Whether it waits to be delivered. What has no local id was delivered when it came.
    pub(crate) fn is_queued(&self) -> bool {
        self.invoked_at.is_none() && self.local_id.is_some()
    }

    /// How many messages this one stands for, of a session with so many and this the `nth`, from 1 on.
    pub(crate) fn stands_for(&self, nth: u64, messages: u64) -> u64 {
        match self.content {
            Content::RestUnreadable(_) => (messages + 1).saturating_sub(nth).max(1),
            _ => 1,
        }
    }

    /// The content as JSON, where it is some.
    pub(crate) fn value(&self) -> Option<Value> {
        match &self.content {
            Content::Json(json) => serde_json::from_str(json).ok(),
            Content::Text(_) | Content::Unreadable(_) | Content::RestUnreadable(_) => None,
        }
    }
}

impl Content {
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Text(bytes) => Self::decoded(bytes.to_vec()),
            ValueRef::Blob(bytes) => match decompressed(bytes) {
                Ok(bytes) => Self::decoded(bytes),
                Err(reason) => Self::Unreadable(reason),
            },
            ValueRef::Null => Self::Unreadable("it has no content".to_owned()),
            ValueRef::Integer(number) => Self::Json(number.to_string()),
            ValueRef::Real(number) => Self::Text(number.to_string()),
        }
    }

    fn decoded(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(json) if serde_json::from_str::<IgnoredAny>(&json).is_ok() => Self::Json(json),
            Ok(text) => Self::Text(text),
            Err(error) => Self::Text(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        }
    }
}

fn decompressed(blob: &[u8]) -> Result<Vec<u8>, String> {
    let unreadable = |error| format!("its {} bytes are not valid zstd: {error}", blob.len());
    let decoder = zstd::stream::read::Decoder::with_buffer(blob).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let mut limited = decoder.take(LARGEST + 1);
    limited.read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.len() as u64 > LARGEST {
        true => Err(format!(
            "its {} bytes decompress to more than 256 MiB",
            blob.len()
        )),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_contents_are_text_and_long_ones_zstd() {
        let json = format!("{{\"role\":\"user\",\"content\":\"{}\"}}", "x".repeat(300));
        let blob = zstd::encode_all(json.as_bytes(), 3).unwrap();
        let content = Content::of(ValueRef::Blob(&blob));
        assert!(matches!(content, Content::Json(read) if read == json));
        let content = Content::of(ValueRef::Text(b"{\"a\":1}"));
        assert!(matches!(content, Content::Json(read) if read == "{\"a\":1}"));
        assert!(matches!(
            Content::of(ValueRef::Text(b"{oops")),
            Content::Text(_)
        ));
        assert!(matches!(
            Content::of(ValueRef::Blob(b"raw")),
            Content::Unreadable(_)
        ));
        assert!(matches!(
            Content::of(ValueRef::Null),
            Content::Unreadable(_)
        ));
    }

    #[test]
    fn a_blob_that_claims_too_much_is_not_taken_into_memory() {
        let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        let zeros = vec![b' '; 1 << 20];
        for _ in 0..300 {
            std::io::Write::write_all(&mut bomb, &zeros).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        let content = Content::of(ValueRef::Blob(&bomb));
        assert!(matches!(content, Content::Unreadable(why) if why.contains("more than 256 MiB")));
    }
}

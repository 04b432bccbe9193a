//! A renderer writes one conversation, a message at a time: memory holds one of them.

use std::io::{self, Write};

use chrono::{DateTime, Local, TimeZone};

use super::session::{Note, Session};
use super::stored::Message;

/// What is exported.
pub(crate) struct Conversation<'a> {
    pub(crate) session: &'a Session,
    pub(crate) notes: &'a [Note],
    /// Where it was read, in words.
    pub(crate) origin: &'a str,
    pub(crate) exported_at: DateTime<Local>,
}

/// Writes one conversation: its head, each message, its end.
pub(crate) trait Renderer {
    fn begin(&mut self, of: &Conversation<'_>, out: &mut dyn Write) -> io::Result<()>;
    fn message(&mut self, message: &Message, out: &mut dyn Write) -> io::Result<()>;
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// A time of a hub on this machine's clock.
pub(crate) fn local(milliseconds: Option<i64>) -> Option<DateTime<Local>> {
    Local.timestamp_millis_opt(milliseconds?).single()
}

/// How a message that was not delivered stands.
pub(super) fn standing(message: &Message) -> Option<String> {
    if !message.is_queued() {
        return None;
    }
    let scheduled = local(message.scheduled_at).map(|time| time.format("%Y-%m-%d %H:%M"));
    Some(match (scheduled, &message.delivery) {
        (_, Some(_)) => "delivery unknown".to_owned(),
        (Some(time), None) => format!("scheduled for {time}, not delivered"),
        (None, None) => "queued, not delivered".to_owned(),
    })
}

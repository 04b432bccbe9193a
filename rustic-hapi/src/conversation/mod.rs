//! A conversation is one session of a hub with its messages, read from a database that nobody writes to, and
//! written as a page, as Markdown or as JSON, a message at a time.
//!
//! All of it is hostile text: whoever can get an agent to say something has a say in it. So every renderer escapes
//! everything, and shows what a terminal or a browser would act on.
//!
//! Knows: the hub's tables, what its messages mean, HTML and Markdown. Must not know: where a database comes from.

pub(crate) mod database;
pub(crate) mod export;
mod fold;
mod html;
mod json;
mod markdown;
mod markup;
mod meaning;
pub(crate) mod plain;
pub(crate) mod renderer;
mod row;
mod said;
pub(crate) mod search;
pub(crate) mod session;
pub(crate) mod stored;

//! What an error says: the fact, and what helps.

use serde_json::{Value, json};

use crate::destination::credentials::redacted;
use crate::error::Error;
use crate::terminal::output::{JSON_VERSION, Output};

/// What a command that failed says in the end.
pub fn error_output(error: &Error) -> Output {
    let mut document = error_json(error);
    document["version"] = json!(JSON_VERSION);
    Output::new(String::new(), document).ending(error.exit(), error_lines(error))
}

/// The error and what helps, for standard error. A library's error may have the address in it, credentials and all.
pub(super) fn error_lines(error: &Error) -> Vec<String> {
    let fact = format!("error: {}", redacted(&error.to_string()));
    let hint = error.hint().map(|hint| format!("hint: {hint}"));
    std::iter::once(fact).chain(hint).collect()
}

/// An error for programs.
pub(super) fn error_json(error: &Error) -> Value {
    json!({ "error": redacted(&error.to_string()), "hint": error.hint(), "exit": error.exit() as u8 })
}

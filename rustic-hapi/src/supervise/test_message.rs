//! A test message shows that bad news arrives, before there is any.

use serde_json::json;

use crate::error::Error;
use crate::exit::Exit;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::profile::notify::Notify;
use crate::state::runs;
use crate::supervise::notify::{Message, Outcome};
use crate::terminal::output::{JSON_VERSION, Output};

/// Sends everybody in `[notify]` one message, as bad news comes: so that it is known to arrive.
///
/// # Errors
/// The profile names nobody.
pub fn test_notification(lookup: &Lookup) -> Result<Output, Error> {
    Profile::load(lookup)?;
    let notify = Notify::find(lookup);
    if notify.is_empty() {
        return Err(Error::usage(
            "the profile names nobody to notify",
            "add `[notify]` with `url` or `command` (profiles/full.toml has both)",
        ));
    }
    let message = Message {
        outcome: Outcome::Anomaly,
        exit: 0,
        run: runs::new_id(),
        command: "notify".into(),
        profile: lookup.name(),
        host: crate::machine::process::host_name(),
        text: "test message: nothing is wrong".into(),
    };
    let failures = notify.tell(&message);
    let told: Vec<_> = [("url", &notify.url), ("command", &notify.command)]
        .into_iter()
        .filter_map(|(key, place)| place.is_some().then_some(key))
        .collect();
    let exit = match failures.is_empty() {
        true => Exit::Complete,
        false => Exit::Failed,
    };
    let text = match exit {
        Exit::Complete => format!("a test message was sent ({})\n", told.join(" and ")),
        _ => String::new(),
    };
    let json = json!({
        "version": JSON_VERSION, "command": "notify", "exit": exit as u8,
        "sent": told, "failures": failures,
    });
    let complaints = failures.iter().map(|failure| format!("error: {failure}"));
    Ok(Output::new(text, json).ending(exit, complaints.collect()))
}

//! The environment that lets restic and rustic open the same repository.

use serde_json::{Value, json};

use crate::location::Location;
use crate::profile::Profile;
use crate::report::JSON_VERSION;

/// The variables, in the order they are printed.
///
/// Credentials in a location are left out unless `with_credentials`; the password is named by its
/// file, never by its value.
pub fn variables(profile: &Profile, with_credentials: bool) -> Vec<(&'static str, String)> {
    let location = match &profile.location {
        Location::Remote(_) if !with_credentials => {
            profile.location.to_string().replace("***@", "")
        }
        location => location.with_credentials(),
    };
    let password = profile.password_file.to_string_lossy().into_owned();
    vec![
        ("RESTIC_REPOSITORY", location.clone()),
        ("RESTIC_PASSWORD_FILE", password.clone()),
        ("RUSTIC_REPOSITORY", location),
        ("RUSTIC_PASSWORD_FILE", password),
    ]
}

/// Lines for a POSIX shell: `eval "$(rustic-hapi env)"`.
pub fn text(variables: &[(&str, String)]) -> String {
    variables
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
        .collect()
}

/// A word of a POSIX shell, whatever is in it.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// For programs.
pub fn json(variables: &[(&str, String)]) -> Value {
    let map: serde_json::Map<String, Value> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    json!({ "version": JSON_VERSION, "command": "env", "variables": map })
}

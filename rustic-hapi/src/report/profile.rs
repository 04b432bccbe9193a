//! What `profile` says.

use serde_json::json;

use crate::exit::Exit;
use crate::profile::Profile;
use crate::terminal::output::{JSON_VERSION, Output};

/// A profile that is valid.
pub fn checked(profile: &Profile) -> Output {
    let text = format!(
        "{} is valid: {} sources, {} series, repository {}\n",
        profile.file.display(),
        profile.sources.len(),
        profile.series.len(),
        profile.reach.location
    );
    let json = json!({
        "version": JSON_VERSION,
        "command": "profile check",
        "profile": profile.file,
        "location": profile.reach.location.to_string(),
        "home": profile.reach.home,
        "hapi-home": profile.hapi_home,
        "state": profile.reach.state,
        "staging": profile.staging,
        "sources": profile.sources.iter().map(|s| json!({
            "name": s.source.name, "kind": s.source.kind, "path": s.source.path,
            "series": s.series, "required": s.source.required,
        })).collect::<Vec<_>>(),
    });
    let warning = profile
        .about_secrets(&|_| false)
        .map(|fact| format!("warning: {fact}"));
    Output::done(text, json).ending(Exit::Complete, warning.into_iter().collect())
}

/// A merged profile.
pub fn shown(toml: String) -> Output {
    let json = json!({ "version": JSON_VERSION, "command": "profile show", "toml": toml });
    Output::verbatim(toml, json)
}

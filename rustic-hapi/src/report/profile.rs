//! What `profile` says.

use serde_json::json;

use crate::exit::Exit;
use crate::policy::manifest::PathRecord;
use crate::profile::Profile;
use crate::terminal::output::{JSON_VERSION, Output};

/// A profile that is valid.
pub fn checked(profile: &Profile) -> Output {
    let copies = profile.copies.iter();
    let copies: String = copies
        .map(|copy| format!(", copy `{}` {}", copy.place(), copy.reach.location))
        .collect();
    let text = format!(
        "{} is valid: {} sources, {} series, repository {}{copies}\n",
        profile.file.display(),
        profile.sources.len(),
        profile.series.len(),
        profile.reach.location
    );
    let mut json = json!({
        "version": JSON_VERSION,
        "command": "profile check",
        "profile": PathRecord::from(&profile.file),
        "location": profile.reach.location.to_string(),
        "home": PathRecord::from(&profile.reach.home),
        "hapi-home": PathRecord::from(&profile.hapi_home),
        "state": PathRecord::from(&profile.reach.state),
        "staging": PathRecord::from(&profile.staging),
        "sources": profile.sources.iter().map(|s| json!({
            "name": s.source.name, "kind": s.source.kind, "path": PathRecord::from(&s.source.path),
            "series": s.series, "required": s.source.required,
        })).collect::<Vec<_>>(),
    });
    if !profile.copies.is_empty() {
        let copies = profile.copies.iter().map(|copy| {
            json!({ "name": copy.place(), "location": copy.reach.location.to_string(), "state": PathRecord::from(&copy.reach.state) })
        });
        json["copies"] = copies.collect();
    }
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

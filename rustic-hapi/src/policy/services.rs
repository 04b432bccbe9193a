//! What starts a hub belongs into its snapshots: the files of its service that the profile does not name yet.

use std::collections::BTreeSet;
use std::path::Path;

use hapi_sources::{Kind, Scope};

use crate::machine::service::ServiceFile;
use crate::profile::Profile;

/// Those of these files that this user may read and the profile does not name, with names for their sources.
pub(crate) fn unnamed<'a>(
    profile: &Profile,
    files: &'a [ServiceFile],
) -> Vec<(String, &'a ServiceFile)> {
    let sources = profile.everything_named();
    let mut names: BTreeSet<String> = sources.iter().map(|s| s.name.clone()).collect();
    let is_named = |path: &Path| {
        sources.iter().any(|source| match source.kind {
            Kind::Dir => path.starts_with(&source.path),
            _ => source.scope == Scope::File && source.path == path,
        })
    };
    let wanted = files.iter().filter(|file| {
        // The rest of HAPI's home has it.
        let is_rest = profile.rest().is_some() && file.path.starts_with(&profile.hapi_home);
        file.readable && !is_rest && !is_named(&file.path)
    });
    wanted
        .filter_map(|file| {
            file.path.to_str()?;
            let last: Vec<_> = file
                .path
                .iter()
                .rev()
                .take(2)
                .map(|part| part.to_string_lossy())
                .collect();
            let mut name = match last.as_slice() {
                [file, folder] if folder.ends_with(".d") => format!("{folder}/{file}"),
                [file, ..] => file.to_string(),
                [] => return None,
            };
            while !names.insert(name.clone()) {
                name.push('+');
            }
            Some((name, file))
        })
        .collect()
}

/// The lines of a source for a file that may hold secrets.
pub(crate) fn secret_lines(name: &str, path: &Path) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    format!(
        "\n[[source]]\nname = {}\npath = {}\nkind = \"secret\"\nsensitivity = \"secrets\"\nrequired = false\n",
        quoted(name),
        quoted(&path.to_string_lossy())
    )
}

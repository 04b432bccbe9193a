//! A new profile is short, and extends a shipped one; in one that is there, only what tells this repository and
//! this hub from others is added, and comments stay.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hapi_sources::named_file;
use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::commands::init::hub::Hub;
use crate::commands::init::request::Request;
use crate::destination::location::Location;
use crate::error::{Error, ProfileError};
use crate::machine::able::{if_able, sync_file};
use crate::machine::private_files::private_folder;
use crate::policy::services::{secret_lines, unnamed};
use crate::profile::Profile;
use crate::profile::hub_id::HubId;
use crate::profile::lookup::{Lookup, in_utf8};
use crate::profile::reach::Password;

pub(super) fn existing_profile(path: &Path, lookup: &Lookup) -> Result<DocumentMut, Error> {
    let text = fs::read_to_string(path).map_err(|error| ProfileError::Read {
        path: path.into(),
        error,
    })?;
    let mut document: DocumentMut =
        text.parse()
            .map_err(|error: toml_edit::TomlError| ProfileError::Syntax {
                path: path.into(),
                message: error.to_string(),
            })?;
    if let Some(wanted) = &lookup.repository() {
        let repository = document
            .entry("repository")
            .or_insert(Item::Table(Table::new()));
        match repository.get("location").and_then(Item::as_str) {
            // What a variable says is compared where the profile is read.
            Some(location)
                if lookup.repository.is_some()
                    && Location::parse(location, &lookup.home()?)
                        != Location::parse(wanted, &lookup.home()?) =>
            {
                return Err(Error::usage(
                    format!(
                        "the profile `{}` already names another repository",
                        path.display()
                    ),
                    "a second place for the same snapshots is a `[[copy]]` in the profile (docs/destinations.md); another hub is a second profile: `--profile NAME`",
                ));
            }
            Some(_) => {}
            None => repository["location"] = value(wanted),
        }
    }
    Ok(document)
}

pub(super) fn new_profile(
    lookup: &Lookup,
    request: &Request,
    hub: &Hub,
) -> Result<DocumentMut, Error> {
    let Some(location) = &lookup.repository() else {
        return Err(Error::usage(
            "there is no profile, and no destination was given",
            "say where snapshots go: `rustic-hapi init --repository /mnt/backup/hapi`",
        ));
    };
    let extends = request.extends.as_deref().unwrap_or(hub.extends);
    let home = lookup.home()?;
    let mut text = format!(
        "# Written by `rustic-hapi init`. All keys: profiles/full.toml; the whole of this one, with what\n# it inherits: `rustic-hapi profile show`.\nextends = {extends:?}\n"
    );
    let usual = home.join(".hapi");
    if hub.home != usual {
        text.push_str(&format!(
            "hapi-home = {}\n",
            value(in_utf8("HAPI's home", &hub.home)?)
        ));
    }
    if let Some(host) = &request.host {
        text.push_str(&format!("host = {}\n", value(host)));
    }
    let location = if location.contains(':') || location.starts_with('~') {
        location.clone()
    } else {
        match std::path::absolute(location) {
            Ok(path) => in_utf8("the repository", &path)?.to_owned(),
            Err(_) => location.clone(),
        }
    };
    text.push_str(&format!("\n[repository]\nlocation = {}\n", value(location)));
    match lookup.password()? {
        Some(Password::File(file)) => text.push_str(&format!(
            "password-file = {}\n",
            value(in_utf8("the password file", &file)?)
        )),
        Some(Password::Command(command)) => {
            text.push_str(&format!("password-command = {}\n", value(command)));
        }
        Some(Password::Given(_)) | None => {}
    }
    if let Some(file) = &request.environment_file {
        text.push_str(&format!(
            "environment-file = {}\n",
            value(in_utf8("the environment file", file)?)
        ));
    }
    if request.allow_same_disk {
        text.push_str("allow-same-disk = true\n");
    }
    text.push_str("\n[secrets]\n");
    if request.recipients.is_empty() {
        text.push_str(
            "# No recipient yet, so secrets are left out. On another machine: `age-keygen -o\n# hapi-identity.txt`; then put its public key here and remove `skip`.\nrecipients = []\nskip = true\n",
        );
    } else {
        let list: toml_edit::Array = request.recipients.iter().collect();
        text.push_str(&format!("recipients = {}\n", value(list)));
    }
    if let Some(database) = &hub.database {
        text.push_str(&format!(
            "\n[[source]]\nname = \"hapi.db\"\npath = {}\nkind = \"sqlite\"\nsensitivity = \"high\"\ncount = [\"sessions\", \"messages\", \"machines\", \"users\", \"session_scratchlist\", \"events\"]\nnewest = [\"messages.created_at\"]\n",
            value(in_utf8("the database", database)?)
        ));
    }
    parsed(&text)
}

pub(super) fn parsed(text: &str) -> Result<DocumentMut, Error> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| Error::Usage {
            fact: format!("the profile would not be valid: {error}"),
            hint: None,
        })
}

/// Lines for what is outside of HAPI's home: keys that the running hub's environment names, and what starts it.
pub(super) fn beside_the_home(profile: &Profile, hub: &Hub) -> String {
    let mut text = String::new();
    for (name, path) in &hub.keys {
        let inherited = profile.everything_named();
        let known = inherited.iter().filter_map(|s| named_file(s, &[]));
        if known.into_iter().all(|known| known != *path) {
            text += &secret_lines(name, path);
        }
    }
    for (name, file) in unnamed(profile, &hub.service) {
        text += &format!(
            "\n# {}\n{}",
            file.what,
            secret_lines(&name, &file.path).trim_start()
        );
    }
    text
}

/// Adds what tells this repository and this machine from others; comments stay.
pub(super) fn add_identity(document: &mut DocumentMut, id: &str, host: &str, hub: &HubId) {
    for (key, text) in [("host", host), ("hub-id", hub.as_str())] {
        if document.get(key).and_then(Item::as_str) != Some(text) {
            document.insert(key, value(text));
        }
    }
    let repository = document
        .entry("repository")
        .or_insert(Item::Table(Table::new()));
    repository["id"] = value(id);
}

/// Adds those to whom secrets are to be encrypted, too, and takes `skip` away; whether anything was added.
pub(super) fn add_recipients(
    document: &mut DocumentMut,
    recipients: &[String],
) -> Result<bool, Error> {
    let text = document.to_string();
    let new: Vec<_> = recipients
        .iter()
        .filter(|r| !text.contains(r.as_str()))
        .collect();
    if new.is_empty() {
        return Ok(false);
    }
    let secrets = document
        .entry("secrets")
        .or_insert(Item::Table(Table::new()));
    let odd = || {
        Error::usage(
            "`[secrets]` of the profile is written in a way that `--recipient` cannot add to",
            "add the key to `recipients` in `[secrets]`, and remove `skip`",
        )
    };
    let secrets = secrets.as_table_like_mut().ok_or_else(odd)?;
    let keys = secrets.entry("recipients").or_insert(value(Array::new()));
    let keys = keys.as_array_mut().ok_or_else(odd)?;
    for key in new {
        keys.push(key.as_str());
    }
    secrets.remove("skip");
    Ok(true)
}

/// Names the environment file; whether it was not named before.
pub(super) fn add_environment_file(document: &mut DocumentMut, file: &Path) -> Result<bool, Error> {
    let file = in_utf8("the environment file", file)?;
    let repository = document
        .entry("repository")
        .or_insert(Item::Table(Table::new()));
    let new = repository.get("environment-file").is_none();
    if new {
        repository["environment-file"] = value(file);
    }
    Ok(new)
}

pub(super) fn put_profile(path: &Path, document: &DocumentMut, exists: bool) -> Result<(), Error> {
    // A link stays one, and what it leads to is written.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let state = Error::at(path);
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !exists {
        private_folder(folder)?;
    }
    let mut file = tempfile::Builder::new()
        .prefix(".profile-")
        .tempfile_in(folder)
        .map_err(state)?;
    file.write_all(document.to_string().as_bytes())
        .map_err(state)?;
    if exists {
        let live = fs::metadata(path).map_err(state)?;
        if_able(fs::set_permissions(file.path(), live.permissions())).map_err(state)?;
        // Only root may, and only root has to.
        _ = std::os::unix::fs::chown(file.path(), Some(live.uid()), Some(live.gid()));
    }
    sync_file(file.as_file()).map_err(state)?;
    file.persist(path).map_err(|error| state(error.error))?;
    Ok(())
}

//! The environment that lets restic and rustic open the same repository.

use serde_json::{Value, json};

use crate::destination::variables::Variables;
use crate::error::Error;
use crate::machine::shell::quoted;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::profile::reach::{Password, Reach};
use crate::profile::reading::Found;
use crate::terminal::output::{JSON_VERSION, Output};

/// Prints the variables of a profile, whatever those in the environment say now: it is asked what they
/// should say.
///
/// # Errors
/// Those of the profile, or of the flags where there is none.
pub fn run(lookup: &Lookup, with_credentials: bool) -> Result<Output, Error> {
    let mut fresh = lookup.clone();
    fresh.env.restic = Variables::default();
    let found = Profile::load(&fresh)
        .map(|profile| Found::Profile(Box::new(profile)))
        .or_else(|_| Profile::load_or_reach(lookup))?;
    let variables = variables(found.reading().reach, with_credentials)?;
    Ok(Output::verbatim(text(&variables), json(&variables)))
}

/// The variables, in the order they are printed.
///
/// A server's user and password, and what the profile's environment file has for other programs, are
/// left out unless `with_credentials`; the repository's password is named by its file or program, never
/// by its value.
///
/// # Errors
/// The environment file cannot be used.
fn variables(reach: &Reach, with_credentials: bool) -> Result<Vec<(String, String)>, Error> {
    let access = reach.access()?;
    let location = match with_credentials {
        true => reach.location.with_user(&access),
        false => reach.location.without_credentials(),
    };
    let mut both = vec![("REPOSITORY", location)];
    match &reach.password {
        Password::Command(command) => both.push(("PASSWORD_COMMAND", command.clone())),
        Password::File(path) => both.push(("PASSWORD_FILE", path.to_string_lossy().into_owned())),
        // The shell that asks has it.
        Password::Given(_) => {}
    }
    if let Some(path) = &access.cacert {
        both.push(("CACERT", path.to_string_lossy().into_owned()));
    }
    let mut variables = Vec::new();
    for program in ["RESTIC", "RUSTIC"] {
        let named = |(name, value): &(&str, String)| (format!("{program}_{name}"), value.clone());
        variables.extend(both.iter().map(named));
    }
    if with_credentials {
        let others = access.environment.iter();
        variables.extend(others.map(|(name, value)| (name.clone(), value.to_string())));
    }
    Ok(variables)
}

/// Lines for a POSIX shell: `eval "$(rustic-hapi env)"`.
fn text(variables: &[(String, String)]) -> String {
    variables
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
        .collect()
}

/// For programs.
fn json(variables: &[(String, String)]) -> Value {
    let map: serde_json::Map<String, Value> = variables
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    json!({ "version": JSON_VERSION, "command": "env", "variables": map })
}

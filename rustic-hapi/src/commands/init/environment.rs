//! The environment file of a profile: what the destination's server wants to know, where a timer finds it. It comes
//! from this shell's environment or from the terminal, never from an argument.

use std::path::Path;

use hapi_sources::Stop;
use zeroize::Zeroizing;

use crate::destination::access;
use crate::destination::location::Location;
use crate::error::Error;
use crate::machine::private_files::{private_folder, write_private};
use crate::terminal::prompt::{self, Consent};

/// What a destination needs, and what it may have.
fn variables(location: &Location) -> (&'static [&'static str], &'static [&'static str]) {
    match location.scheme() {
        "rest" => (
            &["RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD"],
            &["RESTIC_CACERT"],
        ),
        "s3" => (
            &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            &["AWS_DEFAULT_REGION"],
        ),
        "b2" => (&["B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"], &[]),
        _ => (&[], &[]),
    }
}

/// Sees to it that the file has what the destination needs. What is in it stays; it is 0600.
///
/// # Errors
/// A usage error where a variable is neither there nor to be had, and for a destination that needs none; the file
/// cannot be used.
pub(super) fn fill(
    file: &Path,
    location: &Location,
    consent: Consent,
    stop: &Stop,
) -> Result<(), Error> {
    let (needed, optional) = variables(location);
    if needed.is_empty() {
        return Err(Error::usage(
            format!("`{location}` needs no variables, so `--environment-file` has no use here"),
            "leave it out",
        ));
    }
    let exists = file.try_exists().map_err(Error::at(file))?;
    let there = match exists {
        true => access::read(file)?,
        false => Default::default(),
    };
    let mut text = match exists {
        true => access::text(file)?,
        false => Zeroizing::new(String::with_capacity(4096)),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let here = |name: &str| {
        let value = std::env::var(name).ok().map(Zeroizing::new);
        value.filter(|value| !value.is_empty())
    };
    let mut missing = Vec::new();
    for name in needed {
        if there.contains_key(*name) {
            continue;
        }
        let value = match (here(name), consent) {
            (Some(value), _) => value,
            (None, Consent::Terminal) => {
                prompt::hidden_line(&format!("{name} (not shown): "), stop)?
            }
            (None, _) => {
                missing.push(*name);
                continue;
            }
        };
        text.push_str(&line(name, &value)?);
    }
    if !missing.is_empty() {
        return Err(Error::usage(
            format!(
                "{} not set in this shell, and there is no terminal to ask on",
                missing.join(", ")
            ),
            "set it in this shell (`read -rs NAME; export NAME`), then run this again; nothing was written",
        ));
    }
    for name in optional.iter().filter(|name| !there.contains_key(**name)) {
        if let Some(value) = here(name) {
            text.push_str(&line(name, &value)?);
        }
    }
    private_folder(file.parent().unwrap_or(file))?;
    write_private(file, text.as_bytes())
}

/// A line as systemd and a shell read it.
fn line(name: &str, value: &str) -> Result<Zeroizing<String>, Error> {
    let value = value.trim();
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(Error::usage(
            format!("the value of `{name}` is empty, or not one line of text"),
            "nothing was written; run this again",
        ));
    }
    let mut line = Zeroizing::new(String::with_capacity(2 * value.len() + name.len() + 8));
    line.push_str(name);
    line.push_str("=\"");
    for character in value.chars() {
        if "\"\\$`".contains(character) {
            line.push('\\');
        }
        line.push(character);
    }
    line.push_str("\"\n");
    Ok(line)
}

//! The man pages: one of each command, and one of the profile's file. They are made of what the program has
//! besides, the help texts, the exit codes and `profiles/full.toml`, so that they cannot differ from it.

mod profile;

use std::fs;
use std::path::Path;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use serde_json::json;

use crate::cli::help;
use crate::error::Error;
use crate::exit::Exit;
use crate::terminal::output::{JSON_VERSION, Output};

/// Writes all pages into a folder, which is made.
///
/// # Errors
/// A file cannot be written.
pub fn run(folder: &Path) -> Result<Output, Error> {
    fs::create_dir_all(folder).map_err(Error::at(folder))?;
    let pages = pages();
    for (name, text) in &pages {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::at(&path))?;
    }
    let text = format!("{} pages in {}\n", pages.len(), folder.display());
    let json = json!({ "version": JSON_VERSION, "command": "man", "pages": pages.len() });
    Ok(Output::done(text, json))
}

/// The pages by the names of their files.
fn pages() -> Vec<(String, String)> {
    let mut root = help::command().disable_help_subcommand(true);
    root.build();
    let mut pages = vec![("rustic-hapi.toml.5".to_owned(), profile::page())];
    of_command(&root, &mut pages);
    pages
}

fn of_command(command: &clap::Command, pages: &mut Vec<(String, String)>) {
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        of_command(command, pages);
    }
    let man = Man::new(command.clone())
        .source(concat!("rustic-hapi ", env!("CARGO_PKG_VERSION")))
        .manual("rustic-hapi");
    let mut text = Vec::new();
    let rendered = man
        .render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| synopsis(command).to_writer(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text))
        .and_then(|()| match command.has_subcommands() {
            true => man.render_subcommands_section(&mut text),
            false => Ok(()),
        });
    // It is written to memory.
    debug_assert!(rendered.is_ok());
    let text = String::from_utf8_lossy(&text).into_owned();
    let rest = what_all_pages_have(command);
    pages.push((man.get_filename(), text + &rest.to_roff()));
}

/// As `--help` has it: a list of all options would hide what matters.
fn synopsis(command: &clap::Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    let lines = usage.trim_start_matches("Usage:").lines();
    profile::as_written(&mut roff, lines.map(str::trim));
    roff
}

/// The help's examples, exit codes, files and environment.
fn what_all_pages_have(command: &clap::Command) -> Roff {
    let mut roff = Roff::new();
    let examples = command
        .get_after_long_help()
        .or_else(|| command.get_after_help());
    let examples = examples.map(ToString::to_string).unwrap_or_default();
    if let Some((_, examples)) = examples.split_once("Examples:\n") {
        roff.control("SH", ["EXAMPLES"]);
        profile::as_written(&mut roff, examples.lines().map(|line| line.trim_end()));
    }
    roff.control("SH", ["EXIT STATUS"]);
    let codes = Exit::MEANINGS.iter();
    list(
        &mut roff,
        codes.map(|(exit, means)| ((*exit as u8).to_string(), *means)),
    );
    roff.control("SH", ["FILES"]);
    list(
        &mut roff,
        FILES.iter().map(|(path, what)| ((*path).to_owned(), *what)),
    );
    roff.control("SH", ["ENVIRONMENT"]);
    list(
        &mut roff,
        VARIABLES
            .iter()
            .map(|(name, what)| ((*name).to_owned(), *what)),
    );
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("rustic-hapi"),
        roman("(1), "),
        bold("rustic-hapi.toml"),
        roman("(5), "),
        bold("restic"),
        roman("(1), "),
        bold("age"),
        roman("(1)"),
    ]);
    roff
}

fn list<'a>(roff: &mut Roff, entries: impl Iterator<Item = (String, &'a str)>) {
    for (term, what) in entries {
        roff.control("TP", []);
        roff.text([bold(term)]);
        roff.text([roman(what)]);
    }
}

const FILES: [(&str, &str); 4] = [
    (
        "~/.config/rustic-hapi/NAME.toml, /etc/rustic-hapi/NAME.toml",
        "The profile, see rustic-hapi.toml(5); NAME is hapi if --profile gives no other. The first one found counts.",
    ),
    (
        "~/.config/rustic-hapi/NAME.password",
        "The repository's password, written by rustic-hapi init.",
    ),
    (
        "~/.local/state/rustic-hapi/NAME/",
        "What this machine knows of its runs, and the copies of a run in progress (staging). The repository does not depend on it.",
    ),
    (
        "/usr/share/doc/rustic-hapi/",
        "The runbook for the evening when something is lost, destinations, schedules, and all else, where a package installed them.",
    ),
];

const VARIABLES: [(&str, &str); 8] = [
    (
        "RUSTIC_HAPI_PROFILE, RUSTIC_HAPI_HOME, RUSTIC_HAPI_REPOSITORY, RUSTIC_HAPI_PASSWORD_FILE",
        "The same as --profile, --home, --repository and --password-file, which win over them.",
    ),
    ("RUSTIC_HAPI_LOG", "error, info or debug: as -q or -v."),
    (
        "HAPI_HOME",
        "The hub's folder, where the profile does not say hapi-home. The default is ~/.hapi.",
    ),
    (
        "RESTIC_REPOSITORY, RESTIC_PASSWORD_FILE, RESTIC_PASSWORD_COMMAND, RESTIC_PASSWORD",
        "Repository and password, where neither an option nor the profile says them. It is an error if they name another repository than the profile.",
    ),
    (
        "RESTIC_REST_USERNAME, RESTIC_REST_PASSWORD, RESTIC_CACERT",
        "User, password and certificate authority of a REST server.",
    ),
    (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, B2_ACCOUNT_ID, B2_ACCOUNT_KEY, RCLONE_*",
        "The keys of object stores, for rclone.",
    ),
    (
        "XDG_CONFIG_HOME, XDG_STATE_HOME",
        "Folders to use instead of ~/.config and ~/.local/state.",
    ),
    ("NO_COLOR", "Print no colours."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_what_its_help_has() {
        let pages = pages();
        let mut root = help::command().disable_help_subcommand(true);
        root.build();
        for command in root.get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = format!("rustic-hapi-{}.1", command.get_name());
            let (_, page) = pages.iter().find(|page| page.0 == name).unwrap();
            for section in ["NAME", "OPTIONS", "EXIT STATUS", "FILES", "ENVIRONMENT"] {
                assert!(page.contains(section), "{name}: {section}\n{page}");
            }
            for option in command.get_opts().filter_map(|o| o.get_long()) {
                let option = option.replace('-', "\\-");
                assert!(page.contains(&option), "{name}: {option}");
            }
        }
    }

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let table = include_str!("../../docs/exit-codes.md");
        for (exit, _) in Exit::MEANINGS {
            let code = (exit as u8).to_string();
            let first = table
                .lines()
                .filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
            assert!(
                first
                    .into_iter()
                    .any(|cell| cell.split(", ").any(|c| c == code)),
                "{code}"
            );
        }
    }
}

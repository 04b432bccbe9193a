//! No command is advised that nobody ever followed: the scenes in tests/evenings write down each one that they took
//! out of an output and ran, and this compares them with all that the sources advise. What no scene can run stands in
//! `tests/evenings/not_followed.txt` with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::messages::{is_for_people, literals, sources};

/// The programs whose names a command begins with.
const PROGRAMS: [&str; 24] = [
    "age",
    "apt",
    "chmod",
    "chown",
    "df",
    "eval",
    "findmnt",
    "kill",
    "loginctl",
    "ls",
    "mkdir",
    "mount",
    "mv",
    "namei",
    "ps",
    "rclone",
    "read",
    "restic",
    "rm",
    "rustic-hapi",
    "ssh",
    "sudo",
    "systemctl",
    "timedatectl",
];

/// The options that every command of ours repeats from the call.
const REPEATED: [&str; 4] = ["--profile", "--home", "--repository", "--password-file"];

fn record() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("followed-advice")
}

/// Writes down that a command was run as it was advised.
pub fn followed(command: &str) {
    let file = File::options().append(true).create(true).open(record());
    // One write, so that two tests' lines stay apart.
    let line = format!("{}\n", plain(command));
    file.unwrap().write_all(line.as_bytes()).unwrap();
}

/// Without what was repeated from the call.
fn plain(command: &str) -> String {
    let mut words = Vec::new();
    let mut left = command.split(' ');
    while let Some(word) = left.next() {
        match REPEATED.contains(&word) {
            true => _ = left.next(),
            false => words.push(word),
        }
    }
    words.join(" ")
}

/// Every command between backticks in a text of the sources; what is filled in is `*`.
fn advised() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in ["hapi-sources/src", "rustic-hapi/src"] {
        let mut all = Vec::new();
        sources(&root.join(name), &mut all);
        for path in all.iter().filter(|path| !path.ends_with("cli/help.rs")) {
            let text = fs::read_to_string(path).unwrap();
            let said = literals(&text);
            let spans = said
                .iter()
                .filter(|text| is_for_people(text))
                .flat_map(|text| text.split('`').skip(1).step_by(2));
            for span in spans {
                let first = span.split(' ').next().unwrap();
                if span.contains(' ') && PROGRAMS.contains(&first) {
                    let place = path.strip_prefix(&root).unwrap().display().to_string();
                    found.entry(pattern(span)).or_default().insert(place);
                }
            }
        }
    }
    found
}

fn pattern(span: &str) -> String {
    let mut pattern = String::new();
    let mut rest = span;
    while let Some((before, after)) = rest.split_once('{') {
        pattern += before;
        pattern.push('*');
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    // What goes on in another literal.
    let more = if span.ends_with(' ') { "*" } else { "" };
    plain(&(pattern + rest + more))
        .replace('…', "*")
        .replace("'*'", "*")
}

fn is_like(command: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = command.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || pattern.ends_with('*')
}

#[test]
#[ignore = "it comes after all scenes: tests/run.sh runs it last"]
fn every_command_that_is_advised_was_followed_or_cannot_be() {
    let record = fs::read_to_string(record()).unwrap_or_default();
    let list = include_str!("evenings/not_followed.txt");
    let mut listed = BTreeMap::new();
    for line in list
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (command, reason) = line.split_once("   ").expect(line);
        listed.insert(command.to_owned(), reason.trim());
    }
    let advised = advised();
    let mut wrong = Vec::new();
    for (command, places) in &advised {
        let was = record.lines().any(|line| is_like(line, command));
        match (was, listed.contains_key(command)) {
            (false, false) => wrong.push(format!("no scene follows `{command}` ({places:?})")),
            (true, true) => {
                wrong.push(format!("a scene follows `{command}`: take it off the list"))
            }
            _ => {}
        }
    }
    let gone = listed
        .keys()
        .filter(|command| !advised.contains_key(*command));
    wrong.extend(
        gone.map(|command| format!("`{command}` is advised nowhere: take it off the list")),
    );
    let followed = advised.len() - listed.len();
    println!(
        "{followed} of {} advised commands were followed",
        advised.len()
    );
    assert!(
        wrong.is_empty(),
        "tests/evenings/not_followed.txt:\n{}",
        wrong.join("\n")
    );
}

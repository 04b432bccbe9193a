//! What is uncovered is in no snapshot: in words, and as the lines of a profile that would take it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hapi_sources::{Exclusions, Kind, LARGEST_REST, LeftOut, MOST_REST, Scope, Sha256Hash, Why};
use sha2::{Digest, Sha256};

use crate::profile::Profile;
use crate::words::bytes;

/// Something uncovered, in words.
#[derive(Clone, Debug)]
pub struct Uncovered {
    /// What it is, and why no snapshot has it.
    pub fact: String,
    /// Its name.
    pub name: String,
    /// What `ignore` would have to name; nothing where it is not in HAPI's home.
    pub pattern: Option<String>,
    /// Lines for the profile that would take it; none where no line helps.
    pub lines: String,
    /// What helps instead.
    pub otherwise: Option<String>,
    /// Tells it from others: it is told once.
    pub key: Sha256Hash,
}

/// Its name in HAPI's home, or its path where it is elsewhere.
pub(crate) fn name_of(profile: &Profile, path: &Path) -> PathBuf {
    path.strip_prefix(&profile.hapi_home)
        .unwrap_or(path)
        .to_owned()
}

impl Uncovered {
    /// Words and lines for it.
    pub(crate) fn of(profile: &Profile, left_out: &LeftOut) -> Self {
        let name = name_of(profile, &left_out.path);
        let place = match name == left_out.path {
            true => String::new(),
            false => format!(" in `{}`", profile.hapi_home.display()),
        };
        let why = match &left_out.why {
            Why::NoSource if profile.recipients.is_some() => {
                "no source of the profile takes it".to_owned()
            }
            Why::NoSource => "the profile names no recipient to encrypt it to".to_owned(),
            Why::TooLarge => format!(
                "files that no source names are taken, up to {} in total",
                bytes(LARGEST_REST)
            ),
            Why::TooMany => {
                format!("files that no source names are taken, up to {MOST_REST} in total")
            }
            Why::Database => "it is a SQLite database, which needs a source of its own".to_owned(),
            Why::LeadsOut => {
                "it is a symbolic link, and what it leads to is in no source".to_owned()
            }
            Why::OtherFileSystem => "it is on another file system".to_owned(),
            Why::Unstable => "it changed whenever it was read".to_owned(),
            Why::Unreadable(error) => format!("it cannot be read: {error}"),
        };
        let key = Sha256::digest(format!("uncovered {:?}", left_out.path));
        Self {
            fact: format!("`{}`{place} is in no snapshot: {why}", plain(&name)),
            lines: lines(profile, left_out),
            otherwise: otherwise(left_out, &name),
            pattern: name.to_str().filter(|_| name.is_relative()).map(escaped),
            name: plain(&name),
            key: Sha256Hash(key.into()),
        }
    }
}

/// What helps against all of these: for the profile, and ready to be pasted.
pub(crate) fn hint(profile: &Profile, uncovered: &[Uncovered]) -> String {
    let mut hints = Vec::new();
    if profile.recipients.is_none() && uncovered.iter().any(|one| !one.lines.is_empty()) {
        hints.push(
            "add a recipient, and runs take it encrypted: `rustic-hapi init --recipient KEY`"
                .to_owned(),
        );
    }
    let otherwise: BTreeSet<&String> = uncovered.iter().flat_map(|one| &one.otherwise).collect();
    hints.extend(otherwise.into_iter().cloned());
    let mut ignore = profile.ignore.clone();
    let before = ignore.len();
    ignore.extend(uncovered.iter().filter_map(|one| one.pattern.clone()));
    if ignore.len() > before {
        let ignore: Vec<String> = ignore.into_iter().map(quoted).collect();
        hints.push(format!(
            "if it is not to be taken, put this at the top of `{}`: `ignore = [{}]`",
            profile.file.display(),
            ignore.join(", ")
        ));
    }
    let lines: String = uncovered.iter().map(|one| one.lines.as_str()).collect();
    if !lines.is_empty() {
        hints.push(format!(
            "if it is, add these lines at the end of `{}`:\n{}",
            profile.file.display(),
            lines.trim_start()
        ));
    }
    hints.join("; ")
}

/// The names among these that the profile still neither takes nor ignores.
pub(crate) fn still<'a>(profile: &Profile, names: &'a [String]) -> Vec<&'a str> {
    let ignored = Exclusions::parse(&profile.not_missed).ok();
    let is_covered = |name: &str| {
        let path = profile.hapi_home.join(name);
        let ignored = ignored
            .as_ref()
            .is_some_and(|i| i.have(&profile.hapi_home, &path));
        ignored
            || profile.sources.iter().map(|s| &s.source).any(|source| {
                source.scope == Scope::File
                    && match source.kind {
                        Kind::Dir => path.starts_with(&source.path),
                        _ => path == source.path,
                    }
            })
    };
    names
        .iter()
        .map(String::as_str)
        .filter(|name| !is_covered(name))
        .collect()
}

/// The lines that would take it: databases first, as nothing else may read them.
fn lines(profile: &Profile, left_out: &LeftOut) -> String {
    let mut text = String::new();
    let mut taken: BTreeSet<String> = profile
        .sources
        .iter()
        .map(|s| s.source.name.clone())
        .collect();
    let mut add = |path: &Path, kind: &str| {
        let Some(in_profile) = path.to_str().map(|_| name_of(profile, path)) else {
            return;
        };
        let in_profile = in_profile.to_string_lossy();
        let mut name = plain(Path::new(&*in_profile))
            .trim_start_matches('/')
            .to_owned();
        while !taken.insert(name.clone()) {
            name.push('+');
        }
        let path = match Path::new(&*in_profile).is_absolute() {
            true => in_profile.into_owned(),
            false => format!("$HAPI_HOME/{in_profile}"),
        };
        let path = if kind == "sqlite" {
            escaped(&path)
        } else {
            path
        };
        let sensitivity = if kind == "secret" { "secrets" } else { "high" };
        _ = write!(
            text,
            "\n[[source]]\nname = {}\npath = {}\nkind = {kind:?}\nsensitivity = {sensitivity:?}\nrequired = false\n",
            quoted(name),
            quoted(path)
        );
    };
    for database in &left_out.databases {
        add(database, "sqlite");
    }
    match (&left_out.why, left_out.is_folder) {
        (Why::Database | Why::Unstable | Why::Unreadable(_), _) => {}
        (_, true) => add(&left_out.path, "dir"),
        (Why::NoSource, false) if profile.recipients.is_some() => add(&left_out.path, "secret"),
        (_, false) => add(&left_out.path, "file"),
    }
    text
}

fn otherwise(left_out: &LeftOut, name: &Path) -> Option<String> {
    if left_out.path.to_str().is_none() {
        return Some("rename what is not UTF-8, since no profile can name it".to_owned());
    }
    match left_out.why {
        Why::NoSource if name.is_absolute() => Some(format!(
            "the hub's settings name `{}`: `without` at the top of the profile, with the name of its source, leaves it out",
            plain(name)
        )),
        Why::Unreadable(_) => Some("give the user that runs this read access to it".to_owned()),
        _ => None,
    }
}

/// A path for one line of a terminal or a log.
fn plain(path: &Path) -> String {
    path.to_string_lossy()
        .replace(|c: char| c.is_control() || c == '`', "?")
}

/// A name that a pattern takes as it stands there.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        match c {
            '*' | '?' | '[' => _ = write!(text, "[{c}]"),
            '{' | '\\' => text.push('?'),
            c => text.push(c),
        }
    }
    text
}

/// Text as TOML has it.
fn quoted(text: String) -> String {
    toml::Value::String(text).to_string()
}

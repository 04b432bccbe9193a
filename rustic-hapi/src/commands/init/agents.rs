//! The transcripts of agents: one line of the profile takes them, and what that will cost is said beforehand.

use std::fs;
use std::path::{Path, PathBuf};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::error::Error;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;

/// The series that `agents = true` adds.
const SERIES: &str = "hapi-agents";

/// What one agent has on this machine.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The source's name.
    pub name: String,
    /// Files in its folder.
    pub files: u64,
    /// Their bytes: at most what a first snapshot adds, before compression.
    pub bytes: u64,
}

/// Switches them on in a profile; whether they were off.
pub(super) fn switch_on(document: &mut DocumentMut, lookup: &Lookup) -> Result<bool, Error> {
    if document.get("agents").and_then(Item::as_bool) == Some(true) {
        return Ok(false);
    }
    document.insert("agents", value(true));
    // No timer has this shell's variable.
    let usual = lookup.home()?.join(".codex");
    if let Some(codex) = lookup.env.codex.as_ref().filter(|path| **path != usual) {
        let mut source = Table::new();
        let path = codex.join("sessions/**/*.jsonl");
        for (key, text) in [
            ("name", "codex"),
            ("path", &path.to_string_lossy()),
            ("kind", "glob"),
            ("filter", "whole-lines"),
            ("series", SERIES),
            ("sensitivity", "high"),
        ] {
            source[key] = value(text);
        }
        source["required"] = value(false);
        let sources = document
            .entry("source")
            .or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        if let Some(sources) = sources.as_array_of_tables_mut() {
            sources.push(source);
        }
    }
    Ok(true)
}

/// What there is of each agent, where there is anything.
pub(super) fn found(profile: &Profile) -> Vec<Agent> {
    let sources = profile.sources.iter().filter(|s| s.series == SERIES);
    sources
        .filter_map(|source| {
            let (files, bytes) = below(&folder(&source.source.path));
            (files > 0).then(|| Agent {
                name: source.source.name.clone(),
                files,
                bytes,
            })
        })
        .collect()
}

/// The folder before the first part of a pattern that is none.
fn folder(pattern: &Path) -> PathBuf {
    let plain = |part: &std::path::Component<'_>| !part.as_os_str().to_string_lossy().contains('*');
    let folder: PathBuf = pattern.components().take_while(plain).collect();
    match folder == pattern {
        // One file stands alone.
        true => pattern.to_path_buf(),
        false => folder,
    }
}

fn below(path: &Path) -> (u64, u64) {
    let Ok(stat) = fs::symlink_metadata(path) else {
        return (0, 0);
    };
    if stat.is_file() {
        return (1, stat.len());
    }
    if !stat.is_dir() {
        return (0, 0);
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.fold((0, 0), |(files, bytes), entry| {
        let (more, larger) = below(&entry.path());
        (files + more, bytes + larger)
    })
}

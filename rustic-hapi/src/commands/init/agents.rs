//! The transcripts of agents: one line of the profile takes them, and what that will cost is said beforehand.

use hapi_sources::{Stop, measure};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::machine::agents::{Moved, elsewhere};
use crate::profile::Profile;
use crate::profile::written::AGENTS;

/// The series that `agents = true` adds.
const SERIES: &str = "hapi-agents";

/// What one agent has on this machine.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The name of its first source.
    pub name: String,
    /// Its files.
    pub files: u64,
    /// Their bytes: at most what a first snapshot adds, before compression.
    pub bytes: u64,
}

/// Switches them on in a profile, with sources of those that are elsewhere. Those sources' lines, where that changed
/// anything.
pub(super) fn switch_on(document: &mut DocumentMut, moved: &Moved) -> Option<String> {
    let was_on = document.get("agents").and_then(Item::as_bool) == Some(true);
    document.insert("agents", value(true));
    let shipped: DocumentMut = AGENTS.parse().unwrap_or_default();
    let shipped = shipped.get("source").and_then(Item::as_array_of_tables);
    let sources = document
        .entry("source")
        .or_insert(Item::ArrayOfTables(ArrayOfTables::new()))
        .as_array_of_tables_mut()?;
    let mut lines = String::new();
    for usual in shipped.into_iter().flatten() {
        let said = |key: &str| usual.get(key).and_then(Item::as_str).unwrap_or_default();
        let is_written = sources
            .iter()
            .any(|own| own.get("name").and_then(Item::as_str) == Some(said("name")));
        // No timer has the variable.
        let place = elsewhere(said("path"), said("kind") != "dir", moved);
        if let (false, Some(place)) = (is_written, place) {
            let mut source = Table::new();
            for (key, item) in usual.iter() {
                source[key] = item.clone();
            }
            source["path"] = value(place);
            lines += &format!("\n[[source]]\n{source}");
            sources.push(source);
        }
    }
    (!was_on || !lines.is_empty()).then_some(lines)
}

/// What there is of each agent, where there is anything.
pub(super) fn found(profile: &Profile, stop: &Stop) -> Vec<Agent> {
    let mut agents: Vec<Agent> = Vec::new();
    for source in profile.sources.iter().filter(|s| s.series == SERIES) {
        let name = &source.source.name;
        let (files, bytes) = measure(&source.source, stop);
        let is_more_of = |agent: &&mut Agent| {
            name.strip_prefix(&agent.name)
                .is_some_and(|rest| rest.starts_with('-'))
        };
        match agents.iter_mut().find(is_more_of) {
            Some(agent) => {
                agent.files += files;
                agent.bytes += bytes;
            }
            None => agents.push(Agent {
                name: name.clone(),
                files,
                bytes,
            }),
        }
    }
    agents.retain(|agent| agent.files > 0);
    agents
}

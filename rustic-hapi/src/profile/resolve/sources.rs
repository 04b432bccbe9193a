//! Series and sources: from written to meant.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hapi_sources::{Exclusions, Kind, Scope, Source};

use crate::error::ProfileError;
use crate::profile::at::At;
use crate::profile::sources::{Rhythm, Sensitivity, Series, SeriesSource};
use crate::profile::written::{Every, RawSeries, RawSource};

pub(super) fn resolve_series(at: &At<'_>, raw: &[RawSeries]) -> Result<Vec<Series>, ProfileError> {
    let mut seen = BTreeSet::new();
    let mut series = Vec::new();
    for (i, row) in raw.iter().enumerate() {
        let key = format!("series `{}`", row.name);
        let well_formed = !row.name.is_empty()
            && row
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !well_formed || ["partial", "damaged", "shrunk", "only"].contains(&row.name.as_str()) {
            return Err(at.value(&key, "the name cannot be a tag of a series".into(), Some(
                "use letters, digits, `-`, `_` and `.`; `partial`, `damaged`, `shrunk` and `only` are reserved".into(),
            )));
        }
        if !seen.insert(&row.name) {
            return Err(at.value(&key, "the name is used twice".into(), None));
        }
        let rhythm = match (row.every.unwrap_or(Every::Run), &row.on) {
            (Every::Run, None) => Rhythm::EveryRun,
            (Every::Day, None) => Rhythm::Daily,
            (Every::Run | Every::Day, Some(_)) => {
                return Err(at.value(&key, "`on` needs `every = \"week\"`".into(), None));
            }
            (Every::Week, on) => {
                let day = on.as_deref().unwrap_or("sunday");
                Rhythm::Weekly(day.parse().map_err(|_| {
                    at.value(
                        &key,
                        format!("`on`: `{day}` is not a day of the week"),
                        None,
                    )
                })?)
            }
        };
        if i == 0 && rhythm != Rhythm::EveryRun {
            return Err(at.value(
                &key,
                "the first series is taken by every run".into(),
                Some("put the daily or weekly series after it".into()),
            ));
        }
        series.push(Series {
            name: row.name.clone(),
            rhythm,
        });
    }
    if series.is_empty() {
        return Err(at.value("`[[series]]`", "there is none".into(), Some(
            "add `extends = \"hapi\"`, or a series and sources of your own (see profiles/full.toml)".into(),
        )));
    }
    Ok(series)
}

/// Which secrets there is somebody to encrypt to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encrypts {
    All,
    /// `[secrets] skip`.
    Nothing,
    /// There is no recipient, and `skip` is not set: then a secret is a mistake, and what is looked for besides is left
    /// out.
    WhatIsWritten,
}

/// What a hub makes anew, and copies that are none of its state: patterns, seen from HAPI's home.
const COMES_AGAIN: [&str; 17] = [
    "runtime",
    "bin",
    "logs",
    "locks",
    "cache",
    ".cache",
    "tmp",
    "*.lock",
    "*.pid",
    "runner.state.json*",
    "access.key",
    "settings.json.tmp*",
    ".settings.*.tmp",
    "hapi.db.bak*",
    "**/.rustic-hapi*",
    "**/*.set-aside-*",
    "**/*.undo-*.sh",
];

/// What comes again, and what the operator does not miss.
pub(in crate::profile) fn not_missed(ignore: &[String]) -> Vec<String> {
    let again = COMES_AGAIN.iter().map(|pattern| (*pattern).to_owned());
    again.chain(ignore.iter().cloned()).collect()
}

/// Patterns of what the operator does not miss in HAPI's home.
pub(super) fn check_ignore(at: &At<'_>, raw: &[String]) -> Result<(), ProfileError> {
    for pattern in raw {
        let wrong = |fact: String| {
            at.value(
                "`ignore`",
                fact,
                Some(
                    "write names as HAPI's home has them: `ignore = [\"notes\", \"*.old\"]`".into(),
                ),
            )
        };
        if pattern.is_empty() || pattern.starts_with(['/', '~', '$']) {
            return Err(wrong(format!("`{pattern}` is not a name in HAPI's home")));
        }
        if let Err(error) = Exclusions::parse(std::slice::from_ref(pattern)) {
            return Err(wrong(error.to_string()));
        }
    }
    Ok(())
}

pub(super) fn resolve_sources(
    at: &At<'_>,
    raw: Vec<RawSource>,
    series: &[Series],
    encrypts: Encrypts,
    ignore: &[String],
    home: &Path,
    hapi_home: &Path,
) -> Result<(Vec<SeriesSource>, Vec<Source>), ProfileError> {
    let mut seen = BTreeSet::new();
    let mut sources = Vec::new();
    let mut skipped = Vec::new();
    for row in raw {
        let key = format!("source `{}`", row.name);
        let wrong = |fact: String, hint: Option<&str>| at.value(&key, fact, hint.map(Into::into));
        if row.name.is_empty() || row.name.chars().any(char::is_control) {
            return Err(wrong(
                "the name is empty or has control characters".into(),
                None,
            ));
        }
        if !seen.insert(row.name.clone()) {
            return Err(wrong("the name is used twice".into(), None));
        }
        let series_name = row.series.clone().unwrap_or_else(|| series[0].name.clone());
        if series.iter().all(|s| s.name != series_name) {
            return Err(wrong(format!("there is no series `{series_name}`"), None));
        }
        let sensitivity = row.sensitivity.unwrap_or(match row.kind {
            Kind::Secret => Sensitivity::Secrets,
            _ => Sensitivity::Medium,
        });
        if sensitivity == Sensitivity::Secrets && row.kind != Kind::Secret {
            return Err(wrong(
                "`sensitivity = \"secrets\"` needs `kind = \"secret\"`".into(),
                Some("only that kind is encrypted before the repository sees it"),
            ));
        }
        if row.kind != Kind::Sqlite
            && (!row.count.is_empty() || !row.newest.is_empty() || row.integrity.is_some())
        {
            return Err(wrong(
                "`count`, `newest` and `integrity` need `kind = \"sqlite\"`".into(),
                None,
            ));
        }
        if row.kind != Kind::Glob && row.filter.is_some() {
            return Err(wrong("`filter` needs `kind = \"glob\"`".into(), None));
        }
        if row.kind != Kind::Secret && (row.rest || row.named_by.is_some()) {
            return Err(wrong(
                "`rest` and `named-by` need `kind = \"secret\"`".into(),
                None,
            ));
        }
        if row.rest && row.named_by.is_some() {
            return Err(wrong(
                "it has `rest` and `named-by`".into(),
                Some("give one of them"),
            ));
        }
        if !matches!(row.kind, Kind::Glob | Kind::Dir) && !row.rest && !row.exclude.is_empty() {
            return Err(wrong(
                "`exclude` needs `kind = \"glob\"`, `kind = \"dir\"` or `rest = true`".into(),
                None,
            ));
        }
        let path = at.path(
            &format!("`path` of {key}"),
            &row.path,
            home,
            Some(hapi_home),
        )?;
        let scope = match (row.rest, row.named_by) {
            (true, _) => Scope::Rest,
            (false, Some(key)) => Scope::NamedBy {
                key,
                home: home.to_owned(),
            },
            (false, None) => Scope::File,
        };
        let mut exclude = row.exclude;
        if scope == Scope::Rest {
            exclude.extend(not_missed(ignore));
        }
        let source = Source {
            name: row.name,
            kind: row.kind,
            literal: literal(&row.path, home, hapi_home),
            path,
            filter: row.filter,
            exclude,
            required: row.required.unwrap_or(true),
            count: row.count,
            newest: row.newest,
            integrity: row.integrity.unwrap_or_default(),
            scope,
        };
        let left_out = match encrypts {
            Encrypts::All => false,
            Encrypts::Nothing => true,
            // Nobody asked for those: they are told as uncovered instead.
            Encrypts::WhatIsWritten => source.scope != Scope::File,
        };
        if source.kind == Kind::Secret && left_out {
            skipped.push(source);
            continue;
        }
        sources.push(SeriesSource {
            source,
            series: series_name,
            sensitivity,
        });
    }
    Ok((sources, skipped))
}

/// What the written path stands for with a word of its own.
fn literal(written: &str, home: &Path, hapi_home: &Path) -> PathBuf {
    let words = [("~", home), ("$HAPI_HOME", hapi_home)];
    let word = words.iter().find(|(word, _)| written.starts_with(word));
    word.map(|(_, path)| path.to_path_buf()).unwrap_or_default()
}

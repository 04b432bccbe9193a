//! A proof that what came is what was captured: SQLite opens a database, and it is compared with what was known
//! of it then; age opens a secret, to the last byte.

use std::path::Path;

use hapi_sources::{
    CaptureError, Column, DatabaseFacts, Identities, Integrity, IntegrityCheck, Stop, examine,
};

use crate::error::Error;
use crate::machine::target::Target;
use crate::policy::manifest::{EntryRecord, SourceRecord};
use crate::restore::difference::{Difference, What};
use crate::restore::fetch::{Failure, Fetch};
use crate::restore::secret::open_secret;

/// Compares restored databases with what was known of them when they were captured.
pub(crate) fn databases_differ(
    target: &Target,
    record: &SourceRecord,
    stop: &Stop,
) -> Result<Vec<Difference>, Error> {
    let mut findings = Vec::new();
    for entry in &record.entries {
        let Some(known) = &entry.database else {
            continue;
        };
        let path = target.of(&entry.path.to_path());
        if !path.exists() {
            continue; // told when it did not come
        }
        let tables: Vec<String> = known.rows.keys().cloned().collect();
        let columns: Vec<Column> = known.newest.keys().cloned().collect();
        let found = match examine(&path, &tables, &columns, IntegrityCheck::Full, stop) {
            Ok((_, _, found)) => found,
            Err(_) if stop.is_set() => return Err(CaptureError::Stopped.into()),
            Err(error) => {
                findings.push(What::from(format!("it cannot be opened: {error}")).into());
                continue;
            }
        };
        let differ = facts_differ(known, &found).into_iter();
        findings.extend(differ.map(|text| What::from(text).into()));
    }
    Ok(findings)
}

/// Opens a database, and compares it with what was known when it was captured.
pub(crate) fn database_is(
    entry: &EntryRecord,
    path: &Path,
    check: IntegrityCheck,
    stop: &Stop,
) -> Result<(), String> {
    let Some(known) = &entry.database else {
        return Ok(());
    };
    let tables: Vec<String> = known.rows.keys().cloned().collect();
    let columns: Vec<Column> = known.newest.keys().cloned().collect();
    let (hash, _, found) = examine(path, &tables, &columns, check, stop)
        .map_err(|error| format!("it cannot be opened: {error}"))?;
    if entry.sha256 != Some(hash.to_string()) {
        return Err("its SHA-256 is not the manifest's".to_owned());
    }
    match facts_differ(known, &found) {
        differences if differences.is_empty() => Ok(()),
        differences => Err(differences.join("; ")),
    }
}

/// Where two looks at one database disagree.
fn facts_differ(known: &DatabaseFacts, found: &DatabaseFacts) -> Vec<String> {
    let mut findings = Vec::new();
    let mut compare = |what: &str, known: String, found: String| {
        if known != found {
            findings.push(format!("{what} is {found}, the manifest says {known}"));
        }
    };
    let text = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    compare(
        "the number of pages",
        known.page_count.to_string(),
        found.page_count.to_string(),
    );
    compare(
        "user_version",
        known.user_version.to_string(),
        found.user_version.to_string(),
    );
    compare(
        "the hash of the schema",
        known.schema.clone(),
        found.schema.clone(),
    );
    for (table, rows) in &known.rows {
        let now = found.rows.get(table).copied().flatten();
        compare(
            &format!("the row count of `{table}`"),
            text(*rows),
            text(now),
        );
    }
    for (column, value) in &known.newest {
        let now = found.newest.get(column).cloned().flatten();
        let show = |v: &Option<serde_json::Value>| {
            v.as_ref()
                .map_or_else(|| "nothing".to_owned(), ToString::to_string)
        };
        compare(&format!("the newest `{column}`"), show(value), show(&now));
    }
    match (&known.integrity, &found.integrity) {
        (_, Integrity::Damaged { findings: damage }) => findings.push(format!(
            "SQLite finds damage: {}",
            damage
                .first()
                .and_then(|d| d.lines().next())
                .unwrap_or("no details")
        )),
        (Integrity::Damaged { .. }, _) => {
            findings.push("the manifest says it is damaged, but SQLite finds no damage".into());
        }
        _ => {}
    }
    findings
}

/// Decrypts every secret to the last byte, in memory.
pub(crate) fn secrets_differ(
    fetch: &Fetch<'_>,
    record: &SourceRecord,
    identities: &Identities,
) -> Result<Vec<Difference>, Error> {
    let secrets = |entry: &&EntryRecord| entry.secret_entries.is_some();
    let mut findings = Vec::new();
    for entry in record.entries.iter().filter(secrets) {
        match open_secret(fetch, entry, identities) {
            Ok(_) => {}
            Err(Failure::Difference(what)) => findings.push(what.into()),
            Err(Failure::Stopped) => return Err(CaptureError::Stopped.into()),
            Err(Failure::Local(error)) => {
                return Err(Error::at(&entry.path.to_path())(error));
            }
        }
    }
    Ok(findings)
}

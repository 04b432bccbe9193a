//! Who can open the secrets, and whether it was ever tried.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local, TimeDelta};
use hapi_sources::Kind;
use zeroize::Zeroizing;

use crate::doctor::finding::{Finding, listed};
use crate::profile::Profile;
use crate::state::drills::{self, DrillOutcome};

/// One lost key must not be all keys.
pub(super) fn recipients(profile: &Profile) -> Finding {
    const SUBJECT: &str = "recipients";
    if let Some(fact) = profile.about_secrets(&|_| false) {
        return Finding::warn(
            SUBJECT,
            fact,
            match profile.skip_is_overruled {
                true => "take `skip` out of `[secrets]`",
                false => {
                    "make two identities with `age-keygen` on other machines, then `rustic-hapi init --recipient KEY --recipient KEY` with their public keys"
                }
            },
        );
    }
    match profile.recipients.as_ref().map_or(0, |r| r.names().len()) {
        0 if profile
            .sources
            .iter()
            .all(|s| s.source.kind != Kind::Secret) =>
        {
            Finding::ok(SUBJECT, "there is no secret to encrypt")
        }
        0 | 1 => Finding::warn(
            SUBJECT,
            "secrets are encrypted to one key: if it is lost, so are they",
            "make another with `age-keygen` on another machine, and add its public key to `recipients` of `[secrets]`",
        ),
        n => Finding::ok(SUBJECT, format!("{n} keys open the secrets")),
    }
}

/// A key that lies beside what it opens protects nothing. Files are named, never quoted.
pub(super) fn identity(profile: Option<&Profile>, home: &Path) -> Finding {
    const SUBJECT: &str = "identity";
    let recipients = profile.and_then(|p| p.recipients.as_ref());
    let names: Option<BTreeSet<&str>> =
        recipients.map(|r| r.names().iter().map(String::as_str).collect());
    let mut folders = vec![
        home.join(".config/age"),
        home.join(".config/rustic-hapi"),
        home.to_path_buf(),
        home.join(".config/sops/age"),
    ];
    folders.extend(profile.map(|p| p.hapi_home.clone()));
    let mut found: Vec<String> = Vec::new();
    for path in folders.iter().flat_map(|folder| files_in(folder)) {
        if opens(&path, names.as_ref()) {
            found.push(path.display().to_string());
        }
    }
    for public in files_in(&home.join(".ssh")) {
        let private = public.with_extension("");
        let name = public.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("id_") || !name.ends_with(".pub") || !private.is_file() {
            continue;
        }
        let text = fs::read_to_string(&public).unwrap_or_default();
        let key: Vec<&str> = text.split_ascii_whitespace().take(2).collect();
        let key = key.join(" ");
        if names
            .as_ref()
            .is_some_and(|names| names.contains(key.as_str()))
        {
            found.push(private.display().to_string());
        }
    }
    found.sort();
    found.dedup();
    match found.is_empty() {
        true => Finding::ok(SUBJECT, "no private key found in the usual places (good)"),
        false => Finding::warn(
            SUBJECT,
            format!(
                "{} {}, and is on this machine",
                listed(&found),
                match names {
                    Some(_) => "opens the secrets",
                    None => "holds an age identity",
                }
            ),
            "move it to another machine or a USB stick; `rustic-hapi drill --identity FILE` can read it from there",
        ),
    }
}

/// Small plain files. What belongs to a database is not one: only SQLite opens those.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    const LARGEST: u64 = 64 << 10;
    let database = |path: &Path| {
        let name = path.to_string_lossy();
        [".db", ".sqlite", "-wal", "-shm", "-journal"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| !database(path))
        .filter(|path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= LARGEST))
        .collect();
    files.sort();
    files
}

/// Whether it holds an age identity of one of these recipients; of anybody's where they are not known.
fn opens(path: &Path, names: Option<&BTreeSet<&str>>) -> bool {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 << 10));
    let read = File::open(path).and_then(|file| file.take(64 << 10).read_to_end(&mut bytes));
    if read.is_err() {
        return false;
    }
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line.trim_ascii()).ok())
        .filter(|line| line.starts_with("AGE-SECRET-KEY-1"))
        .any(
            |line| match (line.parse::<age::x25519::Identity>(), names) {
                (Ok(identity), Some(names)) => {
                    names.contains(identity.to_public().to_string().as_str())
                }
                // Of no use to us is not of no use to anybody: it is said where it cannot be told.
                _ => true,
            },
        )
}

/// A restore that nobody tried is a hope.
pub(super) fn drill(profile: &Profile, now: DateTime<Local>) -> Finding {
    const SUBJECT: &str = "drill";
    const DO_IT: &str =
        "run `rustic-hapi drill`: it restores everything into a scratch folder and compares";
    let last = match drills::last(&profile.reach) {
        Ok(Some(last)) => last,
        Ok(None) => return Finding::warn(SUBJECT, "never run on this machine", DO_IT),
        Err(error) => {
            let remedy = error.hint().unwrap_or_else(|| DO_IT.to_owned());
            return Finding::warn(SUBJECT, error.to_string(), remedy);
        }
    };
    let days = (now.fixed_offset() - last.time).num_days();
    match last.outcome {
        DrillOutcome::Proven if now.fixed_offset() - last.time > TimeDelta::days(30) => {
            Finding::warn(SUBJECT, format!("the last one was {days} days ago"), DO_IT)
        }
        DrillOutcome::Proven => Finding::ok(
            SUBJECT,
            match days {
                0 => "proven today".to_owned(),
                1 => "proven yesterday".to_owned(),
                _ => format!("proven {days} days ago"),
            },
        ),
        DrillOutcome::Difference | DrillOutcome::Failed => {
            let why = last.findings.first().map(String::as_str);
            Finding::warn(
                SUBJECT,
                format!(
                    "the last one failed: {}",
                    why.unwrap_or("no reason is recorded")
                ),
                DO_IT,
            )
        }
    }
}

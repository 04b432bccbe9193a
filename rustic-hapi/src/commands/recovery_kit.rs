//! A recovery kit is the page that is printed and put into a drawer: where everything is, where
//! the keys to it are kept (places, never values), and the commands that get it all back, with
//! stock programs and with this one.
//! One file, since the page is the product.
//!
//! It holds no secret, and needs no repository within reach: what was not looked at is said.
//! `tests/recovery.rs` runs the commands as they are printed.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local};
use hapi_sources::{Kind, Scope, Source, Stop};
use serde_json::{Value, json};

use crate::archive::beside::hapi_version;
use crate::commands::context::Context;
use crate::error::Error;
use crate::machine::private_files::write_private;
use crate::policy::manifest::PathRecord;
use crate::profile::Profile;
use crate::profile::reach::Password;
use crate::recovery::key::{self, Confirmed, KeyGoesTo, Made, Origin, RecoveryKey};
use crate::recovery::runbook::Runbook;
use crate::repository::Repository;
use crate::repository::keys::Key;
use crate::repository::lock::{Mode, SHARED_WAIT};
use crate::terminal::call::Call;
use crate::terminal::output::{JSON_VERSION, Output};
use crate::terminal::ui::Ui;
use crate::words::{by_restic, cell, code};

/// What is asked of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The page, to standard output or into a file.
    Page(Option<PathBuf>),
    /// A new recovery key.
    NewKey(KeyGoesTo),
    /// A proof that a kept recovery key opens the repository.
    Confirm(Origin),
}

/// The command `recovery-kit`.
///
/// # Errors
/// Those of making and confirming a key, of [`Kit::look`], and of writing the
/// page.
pub fn run(profile: &Profile, request: &Request, context: &Context<'_>) -> Result<Output, Error> {
    let (now, stop, ui) = (context.now(), context.stop, context.ui);
    match request {
        Request::Page(file) => page(profile, file.as_deref(), now, stop, ui),
        Request::NewKey(place) => {
            let repository = Repository::open(&profile.reach, stop, ui.clone())?;
            let _held = repository.lock(Mode::Shared, SHARED_WAIT)?;
            key::make(&repository, profile, place).map(|key| made(key, profile))
        }
        Request::Confirm(origin) => {
            let key = RecoveryKey::read(origin, stop)?;
            let confirmed = key::confirm(profile, &key, now, stop)?;
            Ok(proven(profile, &confirmed))
        }
    }
}

/// What the page tells, gathered.
#[derive(Debug)]
pub struct Kit<'a> {
    profile: &'a Profile,
    printed: DateTime<Local>,
    /// The id that the repository has, or that the profile names.
    id: Option<String>,
    /// Why the repository was not looked at.
    unchecked: Option<String>,
    /// Bytes a chunk, where it was looked at; `None` within for content-defined ones.
    chunk_size: Option<Option<usize>>,
    keys: Vec<Key>,
    confirmed: Option<Confirmed>,
    /// What could not be found out, besides.
    warnings: Vec<String>,
    /// The same of each copy.
    copies: Vec<Self>,
}

impl<'a> Kit<'a> {
    /// Looks at the repository, if it is within reach.
    ///
    /// # Errors
    /// What makes the page a trap: the repository has another id than the profile names, the
    /// password does not open it, or it is none.
    pub fn look(
        profile: &'a Profile,
        now: DateTime<Local>,
        stop: &Stop,
        ui: &Ui,
    ) -> Result<Self, Error> {
        let mut kit = Self {
            profile,
            printed: now,
            id: profile.reach.id.clone(),
            unchecked: None,
            chunk_size: None,
            keys: Vec::new(),
            confirmed: None,
            warnings: Vec::new(),
            copies: Vec::new(),
        };
        match key::last_confirmed(profile) {
            Ok(confirmed) => kit.confirmed = confirmed,
            Err(error) => kit.warnings.push(error.to_string()),
        }
        let looked = Repository::open_at_once(&profile.reach, stop, ui.clone())
            .and_then(|repository| Ok((key::among(repository.keys()?), repository)));
        match looked {
            Ok((keys, repository)) => {
                kit.id = Some(repository.id());
                kit.chunk_size = Some(repository.chunk_size());
                kit.keys = keys;
            }
            Err(
                error @ (Error::OtherRepository { .. }
                | Error::WrongPassword { .. }
                | Error::NotARepository { .. }),
            ) => return Err(error),
            Err(error) => {
                kit.warnings
                    .push(format!("the repository was not checked: {error}"));
                kit.unchecked = Some(error.to_string());
            }
        }
        for copy in &profile.copies {
            if copy.reach.id.is_none() {
                kit.warnings.push(format!(
                    "the copy `{name}` is not on the page, since it was never made; `rustic-hapi init --copy {name}` makes it",
                    name = copy.place()
                ));
                continue;
            }
            let looked = Self::look(copy, now, stop, ui)?;
            let warnings = looked.warnings.iter();
            let of_copy = warnings.map(|warning| format!("copy `{}`: {warning}", copy.place()));
            kit.warnings.extend(of_copy);
            kit.copies.push(looked);
        }
        Ok(kit)
    }

    /// The page.
    pub fn markdown(&self) -> String {
        let runbook = Runbook {
            profile: self.profile,
            id: self.id.as_deref(),
        };
        let parts = [
            self.head(),
            self.places("Where everything is"),
            self.of_copies(),
            self.identities(),
            self.contents(),
            runbook.stock(),
            runbook.ours(),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("\n")
    }

    /// The page and its facts, for programs.
    pub fn json(&self) -> Value {
        let mut json = self.json_of_the_place();
        json["markdown"] = json!(self.markdown());
        if !self.copies.is_empty() {
            let copies = self.copies.iter().map(|copy| {
                let mut json = copy.json_of_the_place();
                json["name"] = json!(copy.profile.place());
                json
            });
            json["copies"] = copies.collect();
        }
        json
    }

    fn json_of_the_place(&self) -> Value {
        let profile = self.profile;
        json!({
            "version": JSON_VERSION,
            "command": "recovery-kit",
            "host": profile.host,
            "time": self.printed.to_rfc3339(),
            "profile": PathRecord::from(&profile.file),
            "repository": {
                "location": profile.reach.location.to_string(),
                "id": self.id,
                "checked": self.unchecked.is_none(),
                "unchecked-because": self.unchecked,
                "chunk-size": self.chunk_size.flatten(),
                "needs-credentials": profile.reach.needs().is_some(),
            },
            "hapi": hapi_version(profile),
            "password-file": profile.reach.password.file().map(PathRecord::from),
            "recovery-keys": self.keys,
            "confirmed": self.confirmed.as_ref().map(|c| json!({ "key-id": c.key_id, "time": c.confirmed.to_rfc3339() })),
            "recipients": self.recipients(),
            "sources": profile.sources.iter().map(|s| json!({
                "name": s.source.name, "kind": s.source.kind, "path": PathRecord::from(&s.source.path), "series": s.series,
            })).collect::<Vec<_>>(),
        })
    }

    fn head(&self) -> String {
        format!(
            "# Getting the hub {} back\n\nPrinted {} by rustic-hapi {}. There is no secret on this page: fill in by hand where each is kept. Print it\nagain when the profile, the keys or the machine change.\n\nHAPI here was {} then; each snapshot names the version of its time (`rustic-hapi snapshots`, or `hapi` in its\n`.hapi-manifest.json`). Install that one: an older HAPI may not open the database of a newer one.\n",
            code(&self.profile.host),
            self.printed.format("%Y-%m-%d %H:%M:%S %:z"),
            env!("CARGO_PKG_VERSION"),
            hapi_version(self.profile).map_or_else(
                || "of an unknown version".to_owned(),
                |version| code(&version)
            ),
        )
    }

    /// Every place from which the same can come back.
    fn of_copies(&self) -> String {
        let each = self.copies.iter().map(|copy| {
            let name = copy.profile.place();
            let runbook = Runbook {
                profile: copy.profile,
                id: copy.id.as_deref(),
            };
            format!(
                "{}\nIt holds copies of the snapshots that its own rules keep, and stands in for the repository above: with restic, set these in place of the\nvariables below, with rustic-hapi add `--from {name}`.\n\n```\n{}```\n",
                copy.places(&format!("The copy {}", code(name))),
                runbook.open_commands()
            )
        });
        each.collect::<Vec<_>>().join("\n")
    }

    fn places(&self, title: &str) -> String {
        let profile = self.profile;
        let mut rows = vec![("repository", code(&profile.reach.location.to_string()))];
        if let Some((what, _)) = profile.reach.needs() {
            rows.push((what, format!("needed; kept at: {BLANK}")));
        }
        rows.push((
            "its id",
            self.id
                .as_deref()
                .map_or_else(|| "unknown: the profile has none".to_owned(), code),
        ));
        rows.push((
            "checked",
            match &self.unchecked {
                None => "yes, the id matches and the password works".to_owned(),
                Some(reason) => format!("**no, this was not checked**: {}", cell(reason)),
            },
        ));
        if let Some(chunks) = self.chunk_size {
            rows.push((
                "chunks",
                match chunks {
                    Some(bytes) => format!(
                        "fixed, {} KiB; every restic from 0.14 on reads and checks them",
                        bytes >> 10
                    ),
                    None => "content-defined".to_owned(),
                },
            ));
        }
        rows.push((
            "password",
            match &profile.reach.password {
                Password::File(path) => format!(
                    "in {} on this machine, and lost with its disk; also kept at: {BLANK}",
                    code(&path.to_string_lossy())
                ),
                Password::Given(_) => format!(
                    "in the variable RESTIC_PASSWORD of the user who printed this; also kept at: {BLANK}"
                ),
                Password::Command(command) => format!(
                    "what {} prints on this machine; also kept at: {BLANK}",
                    code(command)
                ),
            },
        ));
        if let Some(cacert) = profile.reach.access().ok().and_then(|access| access.cacert) {
            rows.push((
                "certificate authority",
                format!(
                    "in {} on this machine (`restic --cacert`); also kept at: {BLANK}",
                    code(&cacert.to_string_lossy())
                ),
            ));
        }
        if let Some(account) = profile.reach.location.sftp_account(&profile.reach.home) {
            rows.push(("which is", code(&account)));
        }
        rows.extend(self.recovery_keys());
        if profile.copy.is_none() {
            rows.push((
                "profile",
                format!(
                    "{}; a copy is kept at: {BLANK}",
                    code(&profile.file.to_string_lossy())
                ),
            ));
        }
        let mut text = format!("## {title}\n\n| | |\n|---|---|\n");
        for (what, place) in rows {
            text += &format!("| {what} | {place} |\n");
        }
        text
    }

    fn recovery_keys(&self) -> Vec<(&'static str, String)> {
        let mut rows: Vec<_> = self
            .keys
            .iter()
            .map(|key| {
                let made = key.created.as_deref().unwrap_or("at an unknown time");
                let proof = match &self.confirmed {
                    Some(proof) if proof.key_id == key.id => {
                        format!("proven {}", proof.confirmed.format("%Y-%m-%d"))
                    }
                    _ => "never proven here".to_owned(),
                };
                let made = made.split('T').next().unwrap_or(made);
                let text = format!(
                    "opens the repository in place of the password; key {} of `restic key list`, made {}, {proof}; kept at: {BLANK}",
                    code(key.short_id()),
                    cell(made),
                );
                ("recovery key", text)
            })
            .collect();
        if rows.is_empty() {
            let fact = match self.unchecked {
                None => {
                    let fact = "**none yet**: `rustic-hapi recovery-kit --new-key` makes one";
                    match &self.profile.copy {
                        Some(name) => Call::default().of_copy(name).complete(fact),
                        None => fact.to_owned(),
                    }
                }
                Some(_) => format!("not looked for; kept at: {BLANK}"),
            };
            rows.push(("recovery key", fact));
        }
        rows
    }

    fn recipients(&self) -> &[String] {
        self.profile
            .recipients
            .as_ref()
            .map_or(&[], |recipients| recipients.names())
    }

    fn identities(&self) -> String {
        let mut text = "## Identities\n\n".to_owned();
        let mut sources = self.profile.sources.iter();
        if self.recipients().is_empty() || !sources.any(|s| s.source.kind == Kind::Secret) {
            text += "This profile encrypts secrets to nobody, so its runs leave them out";
            let skipped = self.profile.skipped_secrets.iter();
            for source in skipped.filter(|source| source.scope == Scope::File) {
                text += &format!(", {}", code(&source.path.to_string_lossy()));
            }
            return text
                + ". Snapshots that another profile took may hold them, encrypted to the recipients that it names; else they have to be made anew, or kept elsewhere.\n";
        }
        text += "Each secret is encrypted to all of these; the identity of any one of them opens it.\n\n| recipient | its identity is kept at |\n|---|---|\n";
        for recipient in self.recipients() {
            text += &format!("| {} | {BLANK} |\n", code(recipient));
        }
        text
    }

    fn contents(&self) -> String {
        let mut text =
            "## What is in it\n\n| source | kind | path | series |\n|---|---|---|---|\n".to_owned();
        for row in &self.profile.sources {
            text += &format!(
                "| {} | {} | {} | {} |\n",
                cell(&row.source.name),
                kind(&row.source),
                code(&row.source.path.to_string_lossy()),
                row.series
            );
        }
        text
    }
}

const BLANK: &str = "______________________________";

fn page(
    profile: &Profile,
    file: Option<&Path>,
    now: DateTime<Local>,
    stop: &Stop,
    ui: &Ui,
) -> Result<Output, Error> {
    let kit = Kit::look(profile, now, stop, ui)?;
    let (markdown, mut json) = (kit.markdown(), kit.json());
    let mut output = match file {
        None => Output::verbatim(markdown, json),
        Some(path) => {
            let path = std::path::absolute(path).map_err(Error::at(path))?;
            // What was filled in by hand is nowhere else.
            if fs::symlink_metadata(&path).is_ok() {
                return Err(Error::usage(
                    format!("`{}` exists already", path.display()),
                    "it was not changed, since it may have been filled in by hand; name a new file",
                ));
            }
            write_private(&path, markdown.as_bytes())?;
            json["file"] = json!(path);
            Output::done(format!("written to {}\n", path.display()), json)
        }
    };
    output.complaints = warnings(&kit.warnings);
    Ok(output)
}

fn made(made: Made, profile: &Profile) -> Output {
    let location = profile.reach.location.to_string();
    let mut text = format!(
        "recovery key {} added: it opens the repository {location}\n",
        short(&made.id)
    );
    if let Some(file) = &made.file {
        text += &format!(
            "It is in {}, and nowhere else: keep it off this machine. It is one line, which restic accepts as a password file.\n",
            file.display()
        );
    }
    for other in &made.others {
        text += &format!(
            "The recovery key {id} of {when} still opens it as well; when you no longer need it: {remove}\n",
            id = other.short_id(),
            remove = format_args!(by_restic!("key remove {}"), other.short_id()),
            when = other.created.as_deref().unwrap_or("an unknown time"),
        );
    }
    if made.shown_once.is_some() {
        text += "Once the key below is written down, prove what you wrote: `rustic-hapi recovery-kit --confirm`\n";
    }
    let json = json!({
        "version": JSON_VERSION,
        "command": "recovery-kit",
        "key-id": made.id,
        "repository": { "location": location },
        "key-file": made.file.as_ref().map(PathRecord::from),
        "other-recovery-keys": made.others,
        "warnings": made.warnings,
    });
    let mut output = Output::done(text, json);
    output.complaints = warnings(&made.warnings);
    output.shown_once = made.shown_once.as_ref().map(RecoveryKey::card);
    output
}

pub(crate) fn warnings(texts: &[String]) -> Vec<String> {
    texts
        .iter()
        .map(|text| format!("warning: {text}"))
        .collect()
}

fn proven(profile: &Profile, confirmed: &Confirmed) -> Output {
    let text = format!(
        "the recovery key {} opens the repository {} ({})\n",
        short(&confirmed.key_id),
        short(&confirmed.repository),
        profile.reach.location
    );
    let json = json!({
        "version": JSON_VERSION,
        "command": "recovery-kit",
        "key-id": confirmed.key_id,
        "repository": { "location": profile.reach.location.to_string(), "id": confirmed.repository },
        "confirmed": confirmed.confirmed.to_rfc3339(),
    });
    Output::done(text, json)
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

fn kind(source: &Source) -> &'static str {
    match source.kind {
        Kind::Secret if source.scope == Scope::Rest => "what no other source takes (age)",
        Kind::Secret if source.scope != Scope::File => "secret that this file names (age)",
        Kind::Secret => "secret (age)",
        Kind::Sqlite => "SQLite database",
        Kind::File => "file",
        Kind::Glob => "files by pattern",
        Kind::Dir => "folder",
    }
}

/// What `--key-file` means for a new key.
///
/// # Errors
/// [`Error::Usage`] where there is no terminal to show it on: a secret goes into no pipe and no log.
pub fn place(file: Option<&Path>, may_show: bool) -> Result<KeyGoesTo, Error> {
    match file {
        Some(path) if path.as_os_str() != "-" => Ok(KeyGoesTo::File(path.into())),
        None if may_show => Ok(KeyGoesTo::Terminal),
        _ => Err(Error::usage(
            "cannot show a new recovery key without a terminal (or with `--json` or `-q`)",
            "write it to a new file: `--key-file FILE`",
        )),
    }
}

//! What `init` says: what it made, and what must now be kept elsewhere.

use serde_json::{Value, json};

use crate::commands::init::{Recovery, Report};
use crate::exit::Exit;
use crate::policy::manifest::PathRecord;
use crate::recovery::key::{Made, RecoveryKey};
use crate::repository::keys::Key;
use crate::restore::origin::{HubHere, listed};
use crate::terminal::output::{JSON_VERSION, Output};
use crate::words::{bytes, plural};

impl Report {
    /// What the command says in the end.
    pub fn output(&self) -> Output {
        let mut output =
            Output::done(self.text(), self.json()).ending(Exit::Complete, self.complaints());
        if let Recovery::Made(made) = &self.recovery {
            output.shown_once = made.shown_once.as_ref().map(RecoveryKey::card);
        }
        output
    }

    /// For a terminal.
    fn text(&self) -> String {
        let mut text = format!(
            "hub         {} ({}{})\n",
            self.hub.home.display(),
            self.hub.found_by,
            if self.hub.database.is_some() || self.hub.home.join("hapi.db").exists() {
                ""
            } else {
                "; no hapi.db there yet"
            },
        );
        for other in &self.hub.elsewhere {
            text += &format!(
                "            a running hub has {} open: if you meant that hub, set `hapi-home = \"{}\"` at the top of the profile\n",
                other.display(),
                other.parent().unwrap_or(other).display()
            );
        }
        if let Some(database) = &self.hub.database {
            text += &format!("database    {}\n", database.display());
        }
        let profile = match (self.profile_is_new, self.profile_changed) {
            (true, _) => "written",
            (false, true) => "kept, with the id added",
            (false, false) => "unchanged",
        };
        text += &format!("profile     {} ({profile})\n", self.profile.display());
        let chunks = match self.chunk_size {
            Some(size) => format!("chunks of {} KiB", size >> 10),
            None => {
                "content-defined chunks: each later snapshot of a database stores most of it again"
                    .to_owned()
            }
        };
        let made = if self.adopted {
            "existed already"
        } else {
            "made"
        };
        text += &format!("repository  {} ({made}, {chunks})\n", self.location);
        text += &format!("id          {}\n", self.repository_id);
        let (ours, others): (Vec<HubHere>, Vec<HubHere>) = self
            .hubs
            .iter()
            .cloned()
            .partition(|hub| hub.id.as_str() == self.hub_id);
        text += &format!("hub id      {}\n", self.hub_id);
        if !ours.is_empty() {
            text += &format!("continues the snapshots of:\n{}\n", listed(&ours));
        }
        if !others.is_empty() {
            text += &format!(
                "other hubs with snapshots here (`--adopt HUB-ID` continues one of them):\n{}\n",
                listed(&others)
            );
        }
        let password = if self.password_is_new {
            "made"
        } else {
            "was there"
        };
        text += &match &self.password_file {
            Some(file) => format!("password    {} ({password})\n", file.display()),
            None => "password    what the password command prints\n".to_owned(),
        };
        let each = self.agents.iter().map(|agent| {
            let files = plural(agent.files, "a file", "files");
            format!("{} ({files}, {})", agent.name, bytes(agent.bytes))
        });
        let each = each.collect::<Vec<_>>().join(", ");
        text += &match (self.agents_taken, each.as_str()) {
            (true, "") => "agents      no transcripts of any agent here yet\n".to_owned(),
            (true, _) => format!("agents      taken once a day: {each}\n"),
            (false, "") => String::new(),
            (false, _) => format!(
                "agents      NOT taken: {each}; without these transcripts a restored session can be read, and not resumed; `rustic-hapi init --with-agents` takes them once a day\n"
            ),
        };
        if let Some(lines) = &self.lines_to_add {
            text += &format!("\nThe profile may not be written; add these lines to it:\n{lines}\n");
        }
        text += "\nKeep a copy of these off this machine, or the backup is lost with it:\n";
        text += &match &self.password_file {
            Some(file) => format!("  - the password in {}\n", file.display()),
            None => "  - the password that the password command prints\n".to_owned(),
        };
        let missing = matches!(self.recovery, Recovery::Missing);
        if !missing {
            text += &self.recovery.text();
        }
        if self.has_recipients {
            text += "  - the age or SSH identities that belong to the recipients in the profile\n";
        } else {
            text += "\nSecrets are NOT kept yet. On another machine:\n    age-keygen -o hapi-identity.txt\nthen here, with the public key it prints: `rustic-hapi init --recipient KEY`\n";
        }
        if missing {
            text += &self.recovery.text();
        }
        text += "\nPrint your recovery instructions: `rustic-hapi recovery-kit`.\n";
        text += "\nNext: run `rustic-hapi snapshot` once, then `rustic-hapi schedule --install` to run it on schedule.\n";
        text
    }

    /// What is unwise, for standard error.
    fn complaints(&self) -> Vec<String> {
        let mut lines = self.warnings.clone();
        lines.extend(self.hub.notes.iter().map(|note| format!("warning: {note}")));
        lines.extend(match &self.recovery {
            Recovery::Made(made) => crate::commands::recovery_kit::warnings(&made.warnings),
            Recovery::There {
                unwritten: Some(file),
                ..
            } => vec![format!(
                "warning: `{}` was not written, since the repository has a recovery key; `rustic-hapi recovery-kit --new-key` adds another",
                file.display()
            )],
            _ => Vec::new(),
        });
        lines
    }

    /// For programs.
    fn json(&self) -> Value {
        let agents = self
            .agents
            .iter()
            .map(|agent| json!({ "name": agent.name, "files": agent.files, "bytes": agent.bytes }));
        let agents: Vec<_> = agents.collect();
        json!({
            "version": JSON_VERSION,
            "command": "init",
            "profile": PathRecord::from(&self.profile),
            "profile-is-new": self.profile_is_new,
            "lines-to-add": self.lines_to_add,
            "repository": { "location": self.location, "id": self.repository_id,
                            "adopted": self.adopted, "chunk-size": self.chunk_size },
            "password-file": self.password_file.as_ref().map(PathRecord::from),
            "password-is-new": self.password_is_new,
            "hub-id": self.hub_id,
            "hubs": self.hubs.iter().map(|hub| json!({
                "id": hub.id.as_str(),
                "host": hub.host,
                "database": hub.database.as_ref().map(PathRecord::from),
                "snapshots": hub.snapshots,
                "newest": hub.newest.time.to_rfc3339(),
            })).collect::<Vec<_>>(),
            "has-recipients": self.has_recipients,
            "recovery-key": self.recovery.json(),
            "hapi-home": PathRecord::from(&self.hub.home),
            "found-by": self.hub.found_by,
            "database": self.hub.database.as_ref().map(PathRecord::from),
            "running-elsewhere": self.hub.elsewhere.iter().map(PathRecord::from).collect::<Vec<_>>(),
            "agents": self.agents_taken.then_some(&agents),
            "agents-not-taken": (!self.agents_taken).then_some(&agents),
            "notes": self.hub.notes,
        })
    }
}

impl Recovery {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Made(Made {
                file: Some(file), ..
            }) => format!(
                "  - the recovery key in {}: it opens the repository when the password is lost\n",
                file.display()
            ),
            Self::Made(_) => {
                "  - the recovery key below: it opens the repository when the password is lost; \
                 once it is written down, `rustic-hapi recovery-kit --confirm` proves what you wrote\n"
                    .to_owned()
            }
            Self::There { keys, .. } => {
                let ids: Vec<_> = keys.iter().map(Key::short_id).collect();
                format!(
                    "  - the recovery key ({}), made earlier; `rustic-hapi recovery-kit --confirm` tests your copy\n",
                    ids.join(", ")
                )
            }
            Self::Missing => format!(
                "\nThere is NO recovery key yet: if this disk is lost, so is the password. Make one: `{MAKE_ONE}`\n"
            ),
        }
    }

    pub(super) fn json(&self) -> Value {
        let (ids, file): (Vec<_>, _) = match self {
            Self::Made(made) => (vec![made.id.as_str()], made.file.as_ref()),
            Self::There { keys, .. } => (keys.iter().map(|k| k.id.as_str()).collect(), None),
            Self::Missing => (Vec::new(), None),
        };
        json!({
            "ids": ids,
            "made": matches!(self, Self::Made(_)),
            "file": file.map(PathRecord::from),
            "hint": ids.is_empty().then(|| format!("make one: `{MAKE_ONE}`")),
        })
    }
}

const MAKE_ONE: &str = "rustic-hapi recovery-kit --new-key --key-file FILE";

//! What `init --copy` says: what it made, and what must now be kept elsewhere.

use serde_json::{Value, json};

use crate::commands::init::Recovery;
use crate::commands::init::copy::Report;
use crate::exit::Exit;
use crate::policy::manifest::PathRecord;
use crate::recovery::key::RecoveryKey;
use crate::terminal::output::{JSON_VERSION, Output};

impl Report {
    /// What the command says in the end.
    pub fn output(&self) -> Output {
        let mut output =
            Output::done(self.text(), self.json()).ending(Exit::Complete, self.warnings.clone());
        if let Recovery::Made(made) = &self.recovery {
            output.shown_once = made.shown_once.as_ref().map(RecoveryKey::card);
        }
        output
    }

    fn text(&self) -> String {
        let made = match self.adopted {
            true => "existed already",
            false => "made",
        };
        let chunks = match self.chunk_size {
            Some(size) => format!("chunks of {} KiB", size >> 10),
            None => "content-defined chunks".to_owned(),
        };
        let mut text = format!(
            "copy        {}\nrepository  {} ({made}, {chunks})\nid          {}\n",
            self.name, self.location, self.repository_id
        );
        let profile = match self.profile_changed {
            true => "kept, with the id added",
            false => "unchanged",
        };
        text += &format!("profile     {} ({profile})\n", self.profile.display());
        if let Some(line) = &self.line_to_add {
            text += &format!("\nThe profile may not be written; add this line to it:\n{line}\n");
        }
        text += &match (&self.password_file, self.password_is_new) {
            (Some(file), true) => format!("password    {} (made)\n", file.display()),
            (Some(file), false) => format!("password    {} (was there)\n", file.display()),
            (None, _) => "password    what the password command prints\n".to_owned(),
        };
        text += "\nKeep a copy of these off this machine, or the copy is lost with it:\n";
        text += match &self.password_file {
            Some(_) => "  - the password in that file\n",
            None => "  - the password that the password command prints\n",
        };
        text += &self.recovery.text();
        text += "\nPrint your recovery instructions again: those of the main repository name this place, too.\n";
        text += "\nNext: `rustic-hapi snapshot` copies every snapshot to it, the newest first. A systemd unit has to be written again, so that it may write there: `rustic-hapi schedule --install`.\n";
        text
    }

    fn json(&self) -> Value {
        json!({
            "version": JSON_VERSION,
            "command": "init",
            "copy": self.name,
            "profile": PathRecord::from(&self.profile),
            "line-to-add": self.line_to_add,
            "repository": { "location": self.location, "id": self.repository_id,
                            "adopted": self.adopted, "chunk-size": self.chunk_size },
            "password-file": self.password_file.as_ref().map(PathRecord::from),
            "password-is-new": self.password_is_new,
            "recovery-key": self.recovery.json(),
        })
    }
}

//! What `init` is told, and whether it goes together with what is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use hapi_sources::{RecipientError, Recipients};
use toml_edit::{DocumentMut, Item};

use crate::error::Error;
use crate::profile::Profile;
use crate::profile::hub_id::HubId;
use crate::recovery::key::KeyGoesTo;
use crate::restore::origin::{HubHere, listed};
use crate::terminal::prompt::Consent;

/// What `init` is told.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// To whom secrets are encrypted.
    pub recipients: Vec<String>,
    /// Files with more of them.
    pub recipients_files: Vec<PathBuf>,
    /// The shipped profile to extend; found out unless given.
    pub extends: Option<String>,
    /// HAPI's home; found out unless given.
    pub hapi_home: Option<PathBuf>,
    /// The host name of the snapshots; this machine's unless given.
    pub host: Option<String>,
    /// The id of the hub whose snapshots are gone on with.
    pub adopt: Option<String>,
    /// Take the transcripts of agents as well.
    pub with_agents: bool,
    /// Accept a repository on the sources' disk.
    pub allow_same_disk: bool,
    /// Where a recovery key goes; none is made unless given.
    pub recovery_key: Option<KeyGoesTo>,
    /// The file that a server's user and password, or keys, go into.
    pub environment_file: Option<PathBuf>,
    /// Who is asked for what this shell does not have.
    pub consent: Consent,
    /// How long to wait for another run.
    pub lock_wait: std::time::Duration,
}

impl Request {
    /// The recipients one by one, those in the files among them.
    pub(super) fn with_each_recipient(mut self) -> Result<Self, Error> {
        let mut each = Vec::new();
        let mut add = |by: &str, text: &str| {
            let found = Recipients::split(text).and_then(|found| match found.is_empty() {
                true => Err(RecipientError::Empty),
                // All of them at once, so that what age refuses is said here.
                false => Recipients::parse(&found).map(|_| found),
            });
            let mut found = found.map_err(|error| {
                Error::usage(
                    format!("{by}: {error}"),
                    "give one key a line; nothing was made, since every key of a list has to work",
                )
            })?;
            each.append(&mut found);
            Ok::<_, Error>(())
        };
        for text in &self.recipients {
            add("`--recipient`", text)?;
        }
        for path in &self.recipients_files {
            let text = fs::read_to_string(path).map_err(Error::at(&path))?;
            add(&format!("`{}`", path.display()), &text)?;
        }
        let mut known = BTreeSet::new();
        each.retain(|recipient| known.insert(recipient.clone()));
        self.recipients = each;
        self.recipients_files.clear();
        Ok(self)
    }

    /// Under which host name and hub id the snapshots are to be. What is in the repository of another
    /// hub with this host name is not gone on with unless that is asked for.
    pub(super) fn which_hub(
        &self,
        profile: &Profile,
        hubs: &[HubHere],
    ) -> Result<(String, HubId), Error> {
        if let Some(name) = &self.adopt {
            let of_host = |hub: &&HubHere| self.host.as_ref().is_none_or(|host| *host == hub.host);
            let found: Vec<&HubHere> = hubs
                .iter()
                .filter(|hub| hub.id.is_named(name))
                .filter(of_host)
                .collect();
            return match found[..] {
                [hub] => Ok((hub.host.clone(), hub.id.clone())),
                _ => Err(Error::usage(
                    match &self.host {
                        Some(host) => format!(
                            "`{name}` does not name one hub of the host `{host}` in this repository"
                        ),
                        None => format!("`{name}` does not name one hub of this repository"),
                    },
                    match hubs.is_empty() {
                        true => "there is no snapshot in it yet: leave out `--adopt`".to_owned(),
                        false => format!("there are:\n{}", listed(hubs)),
                    },
                )),
            };
        }
        let of_host: Vec<HubHere> = hubs
            .iter()
            .filter(|h| h.host == profile.host)
            .cloned()
            .collect();
        let ours = of_host.iter().any(|hub| profile.hub.has_id(&hub.id));
        if of_host.is_empty() || ours {
            return Ok((profile.host.clone(), profile.hub.id.clone()));
        }
        Err(Error::usage(
            format!(
                "the host `{}` has snapshots of another hub in this repository:\n{}",
                profile.host,
                listed(&of_host)
            ),
            format!(
                "if this is that hub, moved or on a new machine: `rustic-hapi … --adopt {}`; \
                 if it is a second hub, give it a host name of its own: `rustic-hapi … --host NAME`",
                of_host[0].id
            ),
        ))
    }

    /// A profile that exists is the operator's: what is asked for and not in it is said, not done.
    pub(super) fn agrees_with(
        &self,
        document: &DocumentMut,
        profile: &Profile,
    ) -> Result<(), Error> {
        let other_file = |file| profile.reach.environment_file.as_ref() != Some(file);
        let differs = if self.environment_file.as_ref().is_some_and(other_file) {
            Some((
                "--environment-file",
                "leave it out, or change `environment-file` in `[repository]`",
            ))
        } else if self.allow_same_disk && !profile.allow_same_disk {
            Some((
                "--allow-same-disk",
                "say `allow-same-disk = true` in `[repository]`",
            ))
        } else if self
            .hapi_home
            .as_ref()
            .is_some_and(|dir| *dir != profile.hapi_home)
        {
            Some(("--hapi-home", "say `hapi-home = \"…\"` at the top of it"))
        } else if self.host.as_ref().is_some_and(|host| *host != profile.host) {
            Some(("--host", "say `host = \"…\"` at the top of it"))
        } else if self
            .extends
            .as_deref()
            .is_some_and(|name| document.get("extends").and_then(Item::as_str) != Some(name))
        {
            Some(("--extends", "say `extends = \"…\"` at the top of it"))
        } else {
            None
        };
        match differs {
            None => Ok(()),
            Some((flag, remedy)) => Err(Error::usage(
                format!(
                    "the profile `{}` exists, and `{flag}` would not change it",
                    profile.file.display()
                ),
                remedy.to_owned(),
            )),
        }
    }
}

//! Init is the first command of a new machine: it looks at the hub, writes a short profile that
//! extends a shipped one, makes the password and the repository, and says what must now be kept
//! elsewhere. No other command makes a repository.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hapi_sources::{Kind, RecipientError, Recipients, Stop};
use toml_edit::{DocumentMut, Item, Table, value};

use crate::destination::location::Location;
use crate::error::{Error, ProfileError};
use crate::machine::disk::Relation;
use crate::machine::holders::running_hubs;
use crate::machine::private_files::private_folder;
use crate::policy::survival::off_the_disk;
use crate::profile::Profile;
use crate::profile::hub_id::HubId;
use crate::profile::lookup::Lookup;
use crate::profile::named::Password;
use crate::recovery::key::{self, Made, Place};
use crate::repository::keys::Key;
use crate::repository::{Repository, chunk_size_for};
use crate::restore::origin::{self, HubHere, listed};
use crate::state::run_lock::lock;
use crate::terminal::ui::Ui;

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
    /// Accept a repository on the sources' disk.
    pub allow_same_disk: bool,
    /// Where a recovery key goes; none is made unless given.
    pub recovery_key: Option<Place>,
}

/// What `init` found and did.
#[derive(Debug)]
pub struct Report {
    /// The profile's file.
    pub profile: PathBuf,
    /// Whether it was written by this call; otherwise only the id was added.
    pub profile_is_new: bool,
    /// Whether this call wrote to it.
    pub profile_changed: bool,
    /// Lines that belong into the profile, where it may not be written.
    pub lines_to_add: Option<String>,
    /// Where the repository is, without credentials.
    pub location: String,
    /// Its id.
    pub repository_id: String,
    /// Which hub's state the snapshots are of.
    pub hub_id: String,
    /// The hubs that have snapshots in it.
    pub hubs: Vec<HubHere>,
    /// Whether it was there already.
    pub adopted: bool,
    /// Bytes a chunk; `None` for content-defined ones.
    pub chunk_size: Option<usize>,
    /// The password's file; `None` where a program prints it.
    pub password_file: Option<PathBuf>,
    /// Whether the password was made by this call.
    pub password_is_new: bool,
    /// Whether anybody can decrypt the secrets.
    pub has_recipients: bool,
    /// Whether there is a key for when the password is lost with this machine.
    pub recovery: Recovery,
    /// What the operator should know of the place.
    pub warnings: Vec<String>,
    /// What was found of the hub.
    pub hub: Hub,
}

/// What `init` found and did about a recovery key.
#[derive(Debug)]
pub enum Recovery {
    /// Made one.
    Made(Made),
    /// The repository has these, and no other was made.
    There {
        /// The recovery keys, by their ids.
        keys: Vec<Key>,
        /// The file that was named for a new one, and was not written.
        unwritten: Option<PathBuf>,
    },
    /// There is none, and nobody to show one to.
    Missing,
}

/// What this machine shows of a hub.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// HAPI's home.
    pub home: PathBuf,
    /// Where the database is, if not there.
    pub database: Option<PathBuf>,
    /// How the home was found.
    pub found_by: &'static str,
    /// The shipped profile that fits.
    pub extends: &'static str,
    /// Other folders with a `hapi.db` that a process holds open now.
    pub elsewhere: BTreeSet<PathBuf>,
}

/// Makes what is missing of profile, password and repository.
///
/// # Errors
/// Before anything is written, whatever is wrong with the profile, the place, or what is there.
pub fn run(lookup: &Lookup, request: &Request, stop: &Stop) -> Result<Report, Error> {
    let request = &request.clone().with_each_recipient()?;
    let existing = lookup.find()?;
    let mut hub = Hub::look(lookup, request)?;
    let path = match &existing {
        Some(path) => path.clone(),
        None => lookup.candidates()?.remove(0),
    };
    let mut document = match &existing {
        Some(path) => existing_profile(path, lookup)?,
        None => new_profile(lookup, request, &hub)?,
    };
    let profile = Profile::parse(&document.to_string(), &path, lookup)?;
    if existing.is_some() {
        hub.home.clone_from(&profile.hapi_home);
        hub.found_by = "the profile";
        request.agrees_with(&document, &profile)?;
    }
    let there = Repository::exists(&profile, stop)?;
    if let (false, Some(id)) = (there, &profile.repository_id) {
        return Err(Error::NoRepository {
            location: profile.location.to_string(),
            fact: format!("the profile names the repository {id}, which is not there"),
            hint: "is the disk mounted? To begin anew, remove `id` from the profile".into(),
        });
    }
    off_the_disk(&profile)?;
    if let (false, Some(Place::File(file))) = (there, &request.recovery_key) {
        key::must_be_new(file)?;
    }
    private_folder(&profile.state)?;
    let _lock = lock(&profile, std::time::Duration::ZERO, stop)?;
    let has_file = profile.password_command.is_none();
    let password_is_new = !there && has_file && make_password(&profile.password_file)?;
    let repository = if there {
        Repository::open(&profile, stop, Ui::silent())?
    } else {
        Repository::init(&profile, chunk_size_for(database_bytes(&profile)), stop)?
    };
    let id = repository.id();
    let hubs = match there {
        true => origin::hubs(&repository, &repository.readable_snapshots()?.0, &profile),
        false => Vec::new(),
    };
    let (host, hub_id) = request.which_hub(&profile, &hubs)?;
    let complete = profile.repository_id.is_some()
        && document.get("host").and_then(Item::as_str) == Some(host.as_str())
        && document.get("hub-id").and_then(Item::as_str) == Some(hub_id.as_str());
    let mut lines_to_add = None;
    if !complete {
        add_identity(&mut document, &id, &host, &hub_id);
        match put_profile(&path, &document, existing.is_some()) {
            Ok(()) => {}
            // One that is there serves without the lines; one that is not does not.
            Err(error) if existing.is_some() => {
                lines_to_add = Some(format!(
                    "{error}\nat its top:               host = \"{host}\"\n                          hub-id = \"{hub_id}\"\nbelow `[repository]`:     id = \"{id}\""
                ));
            }
            Err(error) => return Err(error),
        }
    }
    // Last, so that a failure of it leaves a machine that can take snapshots.
    let recovery = Recovery::look_or_make(&repository, &profile, request)?;
    let warnings = about_the_place(&profile);
    Ok(Report {
        warnings,
        profile: path,
        profile_is_new: existing.is_none(),
        profile_changed: !complete && lines_to_add.is_none(),
        lines_to_add,
        location: profile.location.to_string(),
        repository_id: id,
        hub_id: hub_id.to_string(),
        hubs,
        adopted: there,
        chunk_size: repository.chunk_size(),
        password_file: has_file.then_some(profile.password_file),
        password_is_new,
        has_recipients: profile.recipients.is_some(),
        recovery,
        hub,
    })
}

/// Whether the repository outlives this machine, as far as can be told.
fn about_the_place(profile: &Profile) -> Vec<String> {
    let unknown = || match crate::policy::survival::of_profile(profile) {
        (Relation::Unknown(by), path) => Some(format!(
            "whether the repository is on another disk than `{}` cannot be told ({by})",
            path.display()
        )),
        _ => None,
    };
    let fact = crate::policy::survival::dies_with_this_machine(profile).or_else(unknown);
    let shell = profile.only_in_this_shell().unwrap_or_default();
    let shell = (!shell.is_empty()).then(|| {
        format!(
            "no timer has {}: write what it says into the file that `environment-file` of `[repository]` names",
            shell.join(", ")
        )
    });
    fact.into_iter()
        .chain(shell)
        .map(|fact| format!("warning: {fact}"))
        .collect()
}

impl Recovery {
    /// One recovery key is enough: another is `recovery-kit --new-key`'s to make.
    fn look_or_make(
        repository: &Repository,
        profile: &Profile,
        request: &Request,
    ) -> Result<Self, Error> {
        let keys = key::among(repository.keys()?);
        match &request.recovery_key {
            Some(place) if keys.is_empty() => key::make(repository, profile, place).map(Self::Made),
            None if keys.is_empty() => Ok(Self::Missing),
            place => Ok(Self::There {
                keys,
                unwritten: match place {
                    Some(Place::File(file)) if !file.exists() => Some(file.clone()),
                    _ => None,
                },
            }),
        }
    }
}

impl Request {
    /// The recipients one by one, those in the files among them.
    fn with_each_recipient(mut self) -> Result<Self, Error> {
        let mut each = Vec::new();
        let mut add = |by: &str, text: &str| {
            let found = Recipients::split(text).and_then(|found| match found.is_empty() {
                true => Err(RecipientError::Empty),
                // All of them at once, so that what age refuses is said here.
                false => Recipients::parse(&found).map(|_| found),
            });
            let mut found = found.map_err(|error| Error::Usage {
                fact: format!("{by}: {error}"),
                hint: Some(
                    "give one key a line; nothing was made, since every key of a list has to work"
                        .into(),
                ),
            })?;
            each.append(&mut found);
            Ok::<_, Error>(())
        };
        for text in &self.recipients {
            add("`--recipient`", text)?;
        }
        for path in &self.recipients_files {
            let text = fs::read_to_string(path).map_err(|error| Error::State {
                path: path.clone(),
                error,
            })?;
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
    fn which_hub(&self, profile: &Profile, hubs: &[HubHere]) -> Result<(String, HubId), Error> {
        if let Some(name) = &self.adopt {
            let of_host = |hub: &&HubHere| self.host.as_ref().is_none_or(|host| *host == hub.host);
            let found: Vec<&HubHere> = hubs
                .iter()
                .filter(|hub| hub.id.is_named(name))
                .filter(of_host)
                .collect();
            return match found[..] {
                [hub] => Ok((hub.host.clone(), hub.id.clone())),
                _ => Err(Error::Usage {
                    fact: match &self.host {
                        Some(host) => format!(
                            "`{name}` does not name one hub of the host `{host}` in this repository"
                        ),
                        None => format!("`{name}` does not name one hub of this repository"),
                    },
                    hint: Some(match hubs.is_empty() {
                        true => "there is no snapshot in it yet: leave out `--adopt`".to_owned(),
                        false => format!("there are:\n{}", listed(hubs)),
                    }),
                }),
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
        Err(Error::Usage {
            fact: format!(
                "the host `{}` has snapshots of another hub in this repository:\n{}",
                profile.host,
                listed(&of_host)
            ),
            hint: Some(format!(
                "if this is that hub, moved or on a new machine: `rustic-hapi init --adopt {}`; \
                 if it is a second hub, give it a host name of its own: `--host NAME`",
                of_host[0].id
            )),
        })
    }

    /// A profile that exists is the operator's: what is asked for and not in it is said, not done.
    fn agrees_with(&self, document: &DocumentMut, profile: &Profile) -> Result<(), Error> {
        let text = document.to_string();
        let differs = if self.recipients.iter().any(|r| !text.contains(r.as_str())) {
            Some((
                "--recipient",
                "add the key to `recipients` in `[secrets]`, and remove `skip`",
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
            Some((flag, remedy)) => Err(Error::Usage {
                fact: format!(
                    "the profile `{}` exists, and `{flag}` would not change it",
                    profile.file.display()
                ),
                hint: Some(remedy.to_owned()),
            }),
        }
    }
}

impl Hub {
    /// Looks at the environment, the running hub's open files and the usual place.
    fn look(lookup: &Lookup, request: &Request) -> Result<Self, Error> {
        let home = lookup.home()?;
        let database = std::env::var_os("DB_PATH")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute());
        let usual = home.join(".hapi");
        let running = running_hubs();
        let (hapi_home, found_by) = if let Some(dir) = &request.hapi_home {
            (
                std::path::absolute(dir).unwrap_or_else(|_| dir.clone()),
                "--hapi-home",
            )
        } else if let Some(dir) = &lookup.env.hapi_home {
            (dir.clone(), "HAPI_HOME")
        } else if usual.join("hapi.db").exists() {
            (usual, "the usual place")
        } else {
            match running.iter().collect::<Vec<_>>()[..] {
                [] => (usual, "the usual place"),
                [only] => (only.clone(), "the running hub"),
                _ => {
                    let homes: Vec<_> = running
                        .iter()
                        .map(|dir| format!("`{}`", dir.display()))
                        .collect();
                    return Err(Error::Usage {
                        fact: format!("several hubs run here: {}", homes.join(", ")),
                        hint: Some("say which one: `--hapi-home DIR`".into()),
                    });
                }
            }
        };
        let of_the_fork = [
            hapi_home.join("hub.env"),
            home.join(".config/hapi/driver-manifest.yaml"),
            home.join("coding/hapi/docs/plans"),
            home.join("voice-test-output"),
        ];
        let extends = if of_the_fork.iter().any(|path| path.exists()) {
            "hapi"
        } else {
            "hapi-stock"
        };
        let database = database.filter(|path| *path != hapi_home.join("hapi.db"));
        let elsewhere = running
            .into_iter()
            .filter(|dir| *dir != hapi_home)
            .collect();
        Ok(Self {
            home: hapi_home,
            database,
            found_by,
            extends,
            elsewhere,
        })
    }
}

fn existing_profile(path: &Path, lookup: &Lookup) -> Result<DocumentMut, Error> {
    let text = fs::read_to_string(path).map_err(|error| ProfileError::Read {
        path: path.into(),
        error,
    })?;
    let mut document: DocumentMut =
        text.parse()
            .map_err(|error: toml_edit::TomlError| ProfileError::Syntax {
                path: path.into(),
                message: error.to_string(),
            })?;
    if let Some(wanted) = &lookup.repository()? {
        let repository = document
            .entry("repository")
            .or_insert(Item::Table(Table::new()));
        match repository.get("location").and_then(Item::as_str) {
            // What a variable says is compared where the profile is read.
            Some(location)
                if lookup.repository.is_some()
                    && Location::parse(location, &lookup.home()?)
                        != Location::parse(wanted, &lookup.home()?) =>
            {
                return Err(Error::Usage {
                    fact: format!(
                        "the profile `{}` already names another repository",
                        path.display()
                    ),
                    hint: Some("a second destination is a second profile: `--profile NAME`".into()),
                });
            }
            Some(_) => {}
            None => repository["location"] = value(wanted),
        }
    }
    Ok(document)
}

fn new_profile(lookup: &Lookup, request: &Request, hub: &Hub) -> Result<DocumentMut, Error> {
    let Some(location) = &lookup.repository()? else {
        return Err(Error::Usage {
            fact: "there is no profile and no destination".into(),
            hint: Some(
                "say where snapshots go: `rustic-hapi init --repository /mnt/backup/hapi`".into(),
            ),
        });
    };
    let extends = request.extends.as_deref().unwrap_or(hub.extends);
    let home = lookup.home()?;
    let mut text = format!(
        "# Written by `rustic-hapi init`. All keys: profiles/full.toml; the whole of this one, with what\n# it inherits: `rustic-hapi profile show`.\nextends = {extends:?}\n"
    );
    let usual = home.join(".hapi");
    if hub.home != usual {
        text.push_str(&format!(
            "hapi-home = {}\n",
            value(hub.home.to_string_lossy().as_ref())
        ));
    }
    if let Some(host) = &request.host {
        text.push_str(&format!("host = {}\n", value(host)));
    }
    let location = if location.contains(':') || location.starts_with('~') {
        location.clone()
    } else {
        std::path::absolute(location).map_or_else(
            |_| location.clone(),
            |path| path.to_string_lossy().into_owned(),
        )
    };
    text.push_str(&format!("\n[repository]\nlocation = {}\n", value(location)));
    match lookup.password()? {
        Some(Password::File(file)) => text.push_str(&format!(
            "password-file = {}\n",
            value(file.to_string_lossy().as_ref())
        )),
        Some(Password::Command(command)) => {
            text.push_str(&format!("password-command = {}\n", value(command)));
        }
        None => {}
    }
    if request.allow_same_disk {
        text.push_str("allow-same-disk = true\n");
    }
    text.push_str("\n[secrets]\n");
    if request.recipients.is_empty() {
        text.push_str(
            "# Nobody to encrypt to yet, so secrets are left out. On another machine: `age-keygen -o\n# hapi-identity.txt`; then put its public key here and remove `skip`.\nrecipients = []\nskip = true\n",
        );
    } else {
        let list: toml_edit::Array = request.recipients.iter().collect();
        text.push_str(&format!("recipients = {}\n", value(list)));
    }
    if let Some(database) = &hub.database {
        text.push_str(&format!(
            "\n[[source]]\nname = \"hapi.db\"\npath = {}\nkind = \"sqlite\"\nsensitivity = \"high\"\ncount = [\"sessions\", \"messages\", \"machines\", \"users\"]\nnewest = [\"messages.created_at\"]\n",
            value(database.to_string_lossy().as_ref())
        ));
    }
    text.parse()
        .map_err(|error: toml_edit::TomlError| Error::Usage {
            fact: format!("the profile would not be valid: {error}"),
            hint: None,
        })
}

/// Adds what tells this repository and this machine from others; comments stay.
fn add_identity(document: &mut DocumentMut, id: &str, host: &str, hub: &HubId) {
    for (key, text) in [("host", host), ("hub-id", hub.as_str())] {
        if document.get(key).and_then(Item::as_str) != Some(text) {
            document.insert(key, value(text));
        }
    }
    let repository = document
        .entry("repository")
        .or_insert(Item::Table(Table::new()));
    repository["id"] = value(id);
}

fn put_profile(path: &Path, document: &DocumentMut, exists: bool) -> Result<(), Error> {
    // A link stays one, and what it leads to is written.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let state = |error| Error::State {
        path: path.into(),
        error,
    };
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    if !exists {
        private_folder(folder)?;
    }
    let mut file = tempfile::Builder::new()
        .prefix(".profile-")
        .tempfile_in(folder)
        .map_err(state)?;
    file.write_all(document.to_string().as_bytes())
        .map_err(state)?;
    if exists {
        let live = fs::metadata(path).map_err(state)?;
        fs::set_permissions(file.path(), live.permissions()).map_err(state)?;
        // Only root may, and only root has to.
        _ = std::os::unix::fs::chown(file.path(), Some(live.uid()), Some(live.gid()));
    }
    file.as_file().sync_all().map_err(state)?;
    file.persist(path).map_err(|error| state(error.error))?;
    Ok(())
}

/// Makes a password of 256 random bits, unless there is one; true if it did.
fn make_password(path: &Path) -> Result<bool, Error> {
    if path.try_exists().map_err(|error| Error::State {
        path: path.into(),
        error,
    })? {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        private_folder(folder)?;
    }
    let mut random = zeroize::Zeroizing::new([0u8; 32]);
    let state = |error| Error::State {
        path: path.into(),
        error,
    };
    getrandom::fill(random.as_mut())
        .map_err(|error| state(std::io::Error::other(error.to_string())))?;
    let line = zeroize::Zeroizing::new(format!("{}\n", hex::encode(*random)));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(state)?;
    file.write_all(line.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(state)?;
    Ok(true)
}

fn database_bytes(profile: &Profile) -> u64 {
    profile
        .sources
        .iter()
        .filter(|s| s.source.kind == Kind::Sqlite)
        .filter_map(|s| fs::metadata(&s.source.path).ok())
        .map(|m| m.len())
        .sum()
}

//! Init is the first command of a new machine: it looks at the hub, writes a short profile that
//! extends a shipped one, makes the password and the repository, and says what must now be kept
//! elsewhere. No other command makes a repository.

mod absent;
mod agents;
pub mod copy;
mod environment;
mod hub;
mod new_password;
mod new_profile;
mod place;
mod recovery;
mod request;

use std::fs;
use std::path::{Path, PathBuf};

use hapi_sources::{Kind, Stop};
use toml_edit::{DocumentMut, Item};

pub use self::agents::Agent;
pub use self::hub::Hub;
use self::new_password::put_password;
use self::new_profile::{
    add_environment_file, add_identity, add_recipients, beside_the_home, existing_profile,
    new_profile, parsed, put_profile,
};
pub use self::recovery::Recovery;
pub use self::request::Request;
use crate::destination::variables::PASSWORD;
use crate::error::Error;
use crate::machine::disk::not_a_mount;
use crate::machine::private_files::private_folder;
use crate::policy::survival::{lasts, off_the_disk};
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::profile::reach::Password;
use crate::recovery::key::{self, KeyGoesTo};
use crate::repository::{Repository, chunk_size_for};
use crate::restore::origin::{self, HubHere};
use crate::state::run_lock::lock;
use crate::terminal::ui::Ui;

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
    /// What there is of each agent.
    pub agents: Vec<Agent>,
    /// Whether their transcripts are taken.
    pub agents_taken: bool,
}

/// Makes what is missing of profile, password and repository.
///
/// # Errors
/// Before anything is written, whatever is wrong with the profile, the place, or what is there.
pub fn run(lookup: &Lookup, request: &Request, stop: &Stop) -> Result<Report, Error> {
    let request = &request.clone().with_each_recipient()?;
    let existing = lookup.find()?;
    let mut hub = Hub::look(lookup, request.hapi_home.as_deref())?;
    let path = match &existing {
        Some(path) => path.clone(),
        None => lookup.candidates()?.remove(0),
    };
    let compose = |hub: &Hub| -> Result<DocumentMut, Error> {
        let mut document = new_profile(lookup, request, hub)?;
        if request.with_agents {
            agents::switch_on(&mut document, &hub.agents);
        }
        let profile = Profile::parse(&document.to_string(), &path, lookup)?;
        parsed(&format!("{document}{}", beside_the_home(&profile, hub)))
    };
    let mut document = match &existing {
        Some(path) => existing_profile(path, lookup)?,
        None => compose(&hub)?,
    };
    let mut added = existing.is_some() && add_recipients(&mut document, &request.recipients)?;
    if let (Some(file), true) = (&request.environment_file, existing.is_some()) {
        added |= add_environment_file(&mut document, file)?;
    }
    let mut of_agents = None;
    if request.with_agents {
        of_agents = agents::switch_on(&mut document, &hub.agents);
        added |= of_agents.is_some();
    }
    let mut profile = Profile::parse(&document.to_string(), &path, lookup)?;
    if existing.is_some() {
        hub.home.clone_from(&profile.hapi_home);
        hub.found_by = "the profile".into();
        request.agrees_with(&document, &profile)?;
    }
    if let Some(file) = &request.environment_file {
        environment::fill(file, &profile.reach.location, request.consent, stop)?;
    }
    let there = Repository::exists(&profile.reach, stop)?;
    if let (false, Some(id)) = (there, &profile.reach.id) {
        return Err(Error::NoRepository {
            location: profile.reach.location.to_string(),
            fact: format!("the profile names the repository {id}, which is not there"),
            hint: format!(
                "is the disk mounted? {}To start over, remove `id` from the profile",
                profile
                    .reach
                    .location
                    .local()
                    .and_then(not_a_mount)
                    .map_or_else(String::new, |place| format!(
                        "{place}: {}. ",
                        place.remedy()
                    ))
            ),
        });
    }
    off_the_disk(&profile)?;
    lasts(&profile)?;
    if let (false, Some(KeyGoesTo::File(file))) = (there, &request.recovery_key) {
        key::must_be_new(file)?;
    }
    private_folder(&profile.reach.state)?;
    let _lock = lock(&profile.reach, request.lock_wait, stop)?;
    let password_is_new = match &profile.reach.password {
        Password::File(path) if !there => put_password(path, None)?,
        // No timer has the variable.
        Password::Given(given) => {
            let usual = lookup
                .config_dir()?
                .join(format!("{}.password", profile.name));
            put_password(&usual, Some(given))?;
            profile.reach.password = Password::File(usual);
            profile
                .reach
                .from_variables
                .retain(|name| *name != PASSWORD);
            true
        }
        _ => false,
    };
    let repository = if there {
        Repository::open(&profile.reach, stop, Ui::silent())?
    } else {
        Repository::init(
            &profile.reach,
            chunk_size_for(database_bytes(&profile)),
            stop,
        )?
    };
    let id = repository.id();
    let hubs = match there {
        true => origin::hubs(&repository, &repository.readable_snapshots()?.0),
        false => Vec::new(),
    };
    let (host, hub_id) = request.which_hub(&profile, &hubs)?;
    // Of a machine that takes a hub's place nothing may be there yet: its snapshots say what it has.
    let placed = hubs.iter().find(|hub| hub.id == hub_id && hub.host == host);
    let took = placed.and_then(HubHere::extends);
    if let (None, None, Some(extends)) = (&existing, &request.extends, took)
        && extends != hub.extends
    {
        hub.extends = extends;
        document = compose(&hub)?;
        profile = Profile::parse(&document.to_string(), &path, lookup)?;
    }
    let complete = !added
        && profile.reach.id.is_some()
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
                    "{error}\nat its top:               {}host = \"{host}\"\n                          hub-id = \"{hub_id}\"\nbelow `[repository]`:     id = \"{id}\"{}",
                    match of_agents {
                        Some(_) => "agents = true\n                          ",
                        None => "",
                    },
                    match added && !request.recipients.is_empty() {
                        true => format!(
                            "\nbelow `[secrets]`:        recipients = {:?}, without `skip`",
                            request.recipients
                        ),
                        false => String::new(),
                    } + &of_agents.unwrap_or_default()
                ));
            }
            Err(error) => return Err(error),
        }
    }
    // Last, so that a failure of it leaves a machine that can take snapshots.
    let recovery = Recovery::look_or_make(&repository, &profile, request.recovery_key.as_ref())?;
    let mut warnings = place::about(&profile);
    if existing.is_none() {
        warnings.extend(absent::about(&profile));
    }
    let agents_taken = document.get("agents").and_then(Item::as_bool) == Some(true);
    agents::switch_on(&mut document, &hub.agents);
    let agents = Profile::parse(&document.to_string(), &path, lookup)
        .map_or_else(|_| Vec::new(), |profile| agents::found(&profile, stop));
    Ok(Report {
        warnings,
        profile: path,
        profile_is_new: existing.is_none(),
        profile_changed: !complete && lines_to_add.is_none(),
        lines_to_add,
        location: profile.reach.location.to_string(),
        repository_id: id,
        hub_id: hub_id.to_string(),
        hubs,
        adopted: there,
        chunk_size: repository.chunk_size(),
        password_file: profile.reach.password.file().map(Path::to_path_buf),
        password_is_new,
        has_recipients: profile.recipients.is_some(),
        recovery,
        hub,
        agents,
        agents_taken,
    })
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

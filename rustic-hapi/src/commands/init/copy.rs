//! `init --copy NAME` makes the repository of a `[[copy]]` that stands in the profile. It has the chunk size of the
//! main one, so that it can take over as the main one: what either stores is then the same in both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hapi_sources::Stop;
use toml_edit::{DocumentMut, Item, value};

use super::new_password::put_password;
use super::new_profile::{existing_profile, put_profile};
use super::place;
use super::recovery::Recovery;
use crate::error::{Error, ProfileError};
use crate::machine::disk::{Relation, relation};
use crate::machine::private_files::private_folder;
use crate::policy::survival::{lasts, off_the_disk};
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::profile::reach::Password;
use crate::recovery::key::KeyGoesTo;
use crate::repository::Repository;
use crate::state::run_lock::lock;
use crate::terminal::ui::Ui;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The copy.
    pub name: String,
    /// Where a recovery key goes; none is made unless given.
    pub recovery_key: Option<KeyGoesTo>,
    /// How long to wait for another run.
    pub lock_wait: Duration,
}

/// What was made.
#[derive(Debug)]
pub struct Report {
    /// The copy.
    pub name: String,
    /// The profile's file.
    pub profile: PathBuf,
    /// Whether this call wrote to it.
    pub profile_changed: bool,
    /// The line that belongs into the profile, where it may not be written.
    pub line_to_add: Option<String>,
    /// Where it is, without credentials.
    pub location: String,
    /// Its id.
    pub repository_id: String,
    /// Whether it was there already.
    pub adopted: bool,
    /// Bytes a chunk; `None` for content-defined ones.
    pub chunk_size: Option<usize>,
    /// The password's file; `None` where a program prints it.
    pub password_file: Option<PathBuf>,
    /// Whether the password was made by this call.
    pub password_is_new: bool,
    /// Whether there is a key for when the password is lost with this machine.
    pub recovery: Recovery,
    /// What the operator should know of the place.
    pub warnings: Vec<String>,
}

/// Why no copy was made, and whether that is about the main repository: then that is what the advice is about, too.
#[derive(Debug)]
pub struct NotMade {
    /// What was wrong.
    pub error: Error,
    /// Whether it was before the copy was looked at.
    pub in_main: bool,
}

/// Makes the repository of a copy, or takes up one that is there, and writes its id into the profile.
///
/// # Errors
/// There is no such `[[copy]]`; the main repository does not open; before anything is written, whatever is wrong
/// with the place.
pub fn run(lookup: &Lookup, request: &Request, stop: &Stop) -> Result<Report, Box<NotMade>> {
    let because = |in_main| move |error| Box::new(NotMade { error, in_main });
    let main = Profile::load(lookup).map_err(because(true))?;
    let opened = Repository::open(&main.reach, stop, Ui::silent()).map_err(because(true))?;
    let of_main = (opened.id(), opened.chunk_size());
    drop(opened);
    make(lookup, request, &main, of_main, stop).map_err(because(false))
}

fn make(
    lookup: &Lookup,
    request: &Request,
    main: &Profile,
    (main_id, of_main): (String, Option<usize>),
    stop: &Stop,
) -> Result<Report, Error> {
    let name = &request.name;
    let copy = Profile::load(&Lookup {
        from: Some(name.clone()),
        ..lookup.clone()
    })?;
    let mut document = existing_profile(&main.file, lookup)?;
    let there = Repository::exists(&copy.reach, stop)?;
    if let (false, Some(id)) = (there, &copy.reach.id) {
        return Err(Error::NoRepository {
            location: copy.reach.location.to_string(),
            fact: format!("the profile names the repository {id}, which is not there"),
            hint: format!(
                "is the disk mounted, the server up? To start over, remove `id` from {}",
                copy.table()
            ),
        });
    }
    off_the_disk(&copy)?;
    lasts(&copy)?;
    private_folder(&copy.reach.state)?;
    let _lock = lock(&copy.reach, request.lock_wait, stop)?;
    let password_is_new = match &copy.reach.password {
        Password::File(path) if !there => put_password(path, None)?,
        _ => false,
    };
    let repository = match (there, of_main) {
        (true, _) => Repository::open(&copy.reach, stop, Ui::silent())?,
        (false, Some(size)) => Repository::init(&copy.reach, size as u64, stop)?,
        (false, None) => {
            return Err(Error::usage(
                "the main repository has content-defined chunks, and a copy with other chunks could not take over",
                format!(
                    "make the copy with `restic -r {} init --from-repo {} --copy-chunker-params`, then `rustic-hapi init --copy {name}` again",
                    copy.reach.location, main.reach.location
                ),
            ));
        }
    };
    let id = repository.id();
    copy.is_no_other(&id, main, Some(&main_id))?;
    let mut line_to_add = None;
    let mut profile_changed = false;
    if copy.reach.id.is_none() {
        add_id(&mut document, name, &id, &copy.file)?;
        match put_profile(&copy.file, &document, true) {
            Ok(()) => profile_changed = true,
            Err(error) => {
                line_to_add = Some(format!("{error}\nbelow {}: id = \"{id}\"", copy.table()));
            }
        }
    }
    let mut warnings = place::about(&copy);
    if let (Some(here), Some(there)) = (copy.reach.location.local(), main.reach.location.local())
        && let Relation::Same(reason) = relation(here, there)
    {
        warnings.push(format!(
            "warning: the copy is on the disk of the main repository ({reason}): if that disk fails, both are lost"
        ));
    }
    if repository.chunk_size() != of_main {
        warnings.push(
            "warning: its chunks have another size than the main repository's, so as the main one it would store everything again"
                .to_owned(),
        );
    }
    let recovery = Recovery::look_or_make(&repository, &copy, request.recovery_key.as_ref())?;
    Ok(Report {
        name: name.clone(),
        profile: copy.file.clone(),
        profile_changed,
        line_to_add,
        location: copy.reach.location.to_string(),
        repository_id: id,
        adopted: there,
        chunk_size: repository.chunk_size(),
        password_file: copy.reach.password.file().map(Path::to_path_buf),
        password_is_new,
        recovery,
        warnings,
    })
}

/// Writes the id into the copy's table; comments stay.
fn add_id(document: &mut DocumentMut, name: &str, id: &str, path: &Path) -> Result<(), Error> {
    let tables = document.get_mut("copy");
    let is_it = |name_in: Option<&Item>| name_in.and_then(Item::as_str) == Some(name);
    let put = match tables {
        Some(Item::ArrayOfTables(tables)) => tables
            .iter_mut()
            .find(|table| is_it(table.get("name")))
            .map(|table| table.insert("id", value(id))),
        _ => None,
    };
    match put {
        Some(_) => Ok(()),
        None => Err(ProfileError::Value {
            path: path.into(),
            key: "`[[copy]]`".into(),
            fact: "it is not written as a table of its own, so the id cannot be added".into(),
            hint: Some(format!("add `id = \"{id}\"` to the copy `{name}`")),
        }
        .into()),
    }
}

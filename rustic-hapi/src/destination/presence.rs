//! A presence is what is at a destination, as far as it is certain: what nobody can tell is an error,
//! never "nothing there".

use std::fs;
use std::io;
use std::path::Path;

use crate::destination::location::Location;
use crate::destination::rclone::Listing;
use crate::destination::rest::{Listed, Rest};
use crate::destination::sftp::{Found, Sftp};
use crate::error::Error;
use crate::machine::disk;
use crate::machine::private_files::is_absent;

const OTHER: &str = "contains something that is not a restic repository";

/// A file system's own folder does not make a place occupied.
const LOST_AND_FOUND: &str = "lost+found";

/// What is at a destination, as far as it is certain.
pub(crate) enum Presence {
    Repository,
    /// Nothing: the path is missing, or an empty folder.
    Absent(String),
    /// A server that answers 404 to everything: it has nothing at this path, or is no server for
    /// repositories at all. Only making one there can tell.
    Nothing,
    /// Something else.
    Occupied(String),
    /// A repository that lost its config file.
    Remains,
}

impl Presence {
    /// That there is a repository, or the error that there is none. Where it was `made` already, as an id in the profile
    /// says, nobody is to make another.
    pub(crate) fn require(self, location: &Location, made: bool) -> Result<(), Error> {
        let first = match made {
            true => "",
            false => " If this is the first time, `rustic-hapi init` makes one",
        };
        match self {
            Self::Repository => Ok(()),
            Self::Absent(fact) => Err(Error::NoRepository {
                location: location.to_string(),
                fact,
                hint: match location.local() {
                    Some(folder) => {
                        let place = disk::not_a_mount(folder);
                        let place = place.map_or_else(String::new, |place| {
                            format!(" {place}: {}.", place.remedy())
                        });
                        format!("is the disk mounted?{place}{first}")
                    }
                    None => format!("is the path right, and the disk there mounted?{first}"),
                },
            }),
            Self::Nothing => Err(Error::Destination {
                location: location.to_string(),
                fact: "answers 404 to everything: it has nothing at this path, or is not a server for restic repositories".into(),
                hint: Some(format!("are host, port and path right?{first}")),
            }),
            Self::Occupied(fact) => Err(Error::NotARepository {
                location: location.to_string(),
                fact,
                hint: match location.local() {
                    Some(_) => "choose an empty folder, or check what is there; nothing was changed",
                    None => "is the path right, and is this an empty folder or a server for restic repositories (rest-server, `rclone serve restic`)? Nothing was changed",
                }
                .into(),
            }),
            Self::Remains => Err(Error::NotARepository {
                location: location.to_string(),
                fact: "holds the data of a repository whose file `config` is missing".into(),
                hint: "put `config` back, from another copy of the repository; nothing was changed"
                    .into(),
            }),
        }
    }
}

/// Makes sure of a local repository before anything is opened: an unmounted disk is told as such,
/// before anything else is found odd about the place. Servers are asked when they are opened.
///
/// # Errors
/// As [`Presence::require`].
pub(crate) fn require_folder(location: &Location, made: bool) -> Result<(), Error> {
    match location.local() {
        Some(folder) => at_folder(folder)?.require(location, made),
        None => Ok(()),
    }
}

/// What a server says is there. Of a foreign folder behind a REST server that is not ours nothing can be
/// seen: restic's protocol lists its own folders alone.
pub(super) fn at_server(server: &Rest) -> Result<Presence, Error> {
    if server.has_config()? {
        return Ok(Presence::Repository);
    }
    match server.place() {
        Some(Listing::Names(names)) if names.iter().any(|name| !is_of_a_repository(name)) => {
            return Ok(Presence::Occupied(OTHER.into()));
        }
        Some(Listing::Missing) => return Ok(Presence::Absent("the folder does not exist".into())),
        Some(Listing::Failed(said)) => return Err(server.unlisted(said).into()),
        Some(Listing::Names(_)) | None => {}
    }
    // That one file is not there is little: a place that is away looks like that through rclone, and
    // another web server like nothing else.
    const FOLDERS: usize = 4;
    let mut missing = 0;
    let folders: [&str; FOLDERS] = ["snapshots", "index", "data", "keys"];
    for folder in folders {
        match server.look(folder)? {
            Listed::Files(0) => {}
            Listed::Files(_) if folder == "keys" => {}
            Listed::Files(_) => return Ok(Presence::Remains),
            Listed::Missing => missing += 1,
            Listed::Foreign => {
                return Ok(Presence::Occupied(
                    "is not a server for restic repositories: it answers 404 with a web page"
                        .into(),
                ));
            }
        }
    }
    Ok(match missing {
        FOLDERS => Presence::Nothing,
        _ => Presence::Absent("the place is empty".into()),
    })
}

/// What is at a path of an SFTP server, which says for certain what is there and what is not.
pub(super) fn at_account(server: &Sftp) -> Result<Presence, Error> {
    match server.look("")? {
        None => return Ok(Presence::Absent("the folder does not exist".into())),
        Some(Found::File) => return Ok(Presence::Occupied(OTHER.into())),
        Some(Found::Folder) => {}
    }
    if server.look("config")?.is_some() {
        return Ok(Presence::Repository);
    }
    let names = server.names("")?;
    for folder in ["snapshots", "index", "data"] {
        if names.iter().any(|name| name == folder) && !server.files(folder)?.is_empty() {
            return Ok(Presence::Remains);
        }
    }
    let foreign = |name: &String| name != LOST_AND_FOUND && !is_of_a_repository(name);
    Ok(match names.iter().any(foreign) {
        true => Presence::Occupied(OTHER.into()),
        false => Presence::Absent("the place is empty".into()),
    })
}

/// Whether a name is one of those in a repository's folder.
fn is_of_a_repository(name: &str) -> bool {
    let known = ["data", "index", "keys", "locks", "snapshots"];
    known.contains(&name.trim_end_matches('/'))
}

/// What is at a local path.
pub(super) fn at_folder(folder: &Path) -> Result<Presence, Error> {
    let unsure = Error::at(folder);
    let metadata = match fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => {
            return Ok(Presence::Absent("the folder does not exist".into()));
        }
        Err(error) => return Err(unsure(error)),
    };
    if !metadata.is_dir() {
        return Ok(Presence::Occupied(OTHER.into()));
    }
    if folder.join("config").try_exists().map_err(unsure)? {
        return Ok(Presence::Repository);
    }
    let mut names = fs::read_dir(folder).map_err(unsure)?.filter_map(Result::ok);
    // A repository whose making was cut off has its folders, perhaps a key, and no config.
    for kind in ["snapshots", "index", "data"] {
        if holds_a_file(&folder.join(kind)).map_err(unsure)? {
            return Ok(Presence::Remains);
        }
    }
    let occupied = names.any(|entry| {
        let name = entry.file_name();
        name != LOST_AND_FOUND && !is_of_a_repository(&name.to_string_lossy())
    });
    Ok(if occupied {
        Presence::Occupied(OTHER.into())
    } else {
        Presence::Absent("the folder is empty".into())
    })
}

fn holds_a_file(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || holds_a_file(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

//! What this machine shows of a hub: the environment, the running hub's open files, the usual place.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::machine::holders::running_hubs;
use crate::profile::lookup::Lookup;

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

impl Hub {
    /// Looks at the environment, the running hub's open files and the usual place.
    pub(super) fn look(lookup: &Lookup, said: Option<&Path>) -> Result<Self, Error> {
        let home = lookup.home()?;
        let database = std::env::var_os("DB_PATH")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute());
        let usual = home.join(".hapi");
        let running = running_hubs();
        let (hapi_home, found_by) = if let Some(dir) = said {
            (
                std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf()),
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
                    return Err(Error::usage(
                        format!("several hubs run here: {}", homes.join(", ")),
                        "choose one: `--hapi-home DIR`",
                    ));
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

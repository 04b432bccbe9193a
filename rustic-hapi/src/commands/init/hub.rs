//! What this machine shows of a hub: the environment, the hubs that run, the usual place, and what starts them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::machine::agents::Moved;
use crate::machine::hubs::{RunningHub, running};
use crate::machine::service::{self, ServiceFile};
use crate::profile::lookup::Lookup;

/// What this machine shows of a hub.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// HAPI's home.
    pub home: PathBuf,
    /// Where the database is, if not there.
    pub database: Option<PathBuf>,
    /// How the home was found.
    pub found_by: String,
    /// The shipped profile that fits.
    pub extends: &'static str,
    /// Other databases that a process holds open now.
    pub elsewhere: BTreeSet<PathBuf>,
    /// What the operator should know of all that.
    pub notes: Vec<String>,
    /// Keys that the running hub's environment names, by what they are.
    pub(super) keys: Vec<(&'static str, PathBuf)>,
    /// Where agents have their transcripts, by the running hub's variables, else by this shell's.
    pub(super) agents: Moved,
    /// What starts it.
    pub(super) service: Vec<ServiceFile>,
}

impl Hub {
    /// Looks at the environment, the hubs that run and the usual place.
    pub(super) fn look(lookup: &Lookup, said: Option<&Path>) -> Result<Self, Error> {
        let home = lookup.home()?;
        let (abroad, running): (Vec<_>, Vec<_>) =
            running(&home).into_iter().partition(|hub| hub.elsewhere);
        let (hapi_home, found_by) = which(lookup, said, &home, &running)?;
        let of_it = running.iter().find(|hub| hub.home(&home) == hapi_home);
        let shell = std::env::var_os("DB_PATH")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute());
        let database = of_it
            .and_then(|hub| hub.says.database.as_ref().map(|_| hub.database.clone()))
            .or(shell)
            .filter(|path| *path != hapi_home.join("hapi.db"));
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
        let own = database
            .clone()
            .unwrap_or_else(|| hapi_home.join("hapi.db"));
        let says = of_it.map(|hub| hub.says.clone()).unwrap_or_default();
        let mut agents = lookup.env.agents.clone();
        agents.extend(says.agents);
        let keys = [("fcm-service-account", says.fcm), ("apns-key", says.apns)];
        let units: Vec<_> = of_it.and_then(|hub| hub.unit.clone()).into_iter().collect();
        let mut found = Self {
            elsewhere: running
                .iter()
                .map(|hub| hub.database.clone())
                .filter(|path| *path != own)
                .collect(),
            keys: keys
                .into_iter()
                .filter_map(|(name, path)| Some((name, path?)))
                .collect(),
            service: service::files(&home, &units, Path::new("/")),
            notes: abroad.iter().map(in_a_container).collect(),
            home: hapi_home,
            agents,
            database,
            found_by,
            extends,
        };
        found.notes.extend(
            found
                .service
                .iter()
                .filter(|file| !file.readable)
                .map(unreadable),
        );
        Ok(found)
    }
}

/// Which home is meant, and why.
fn which(
    lookup: &Lookup,
    said: Option<&Path>,
    home: &Path,
    running: &[RunningHub],
) -> Result<(PathBuf, String), Error> {
    if let Some(dir) = said {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
        return Ok((dir, "--hapi-home".into()));
    }
    if let Some(dir) = &lookup.env.hapi_home {
        return Ok((dir.clone(), "HAPI_HOME".into()));
    }
    let usual = (home.join(".hapi"), "the usual place".to_owned());
    let of_usual = |hub: &&RunningHub| hub.home(home) == usual.0 && hub.says.database.is_none();
    if running.iter().any(|hub| of_usual(&hub)) {
        return Ok(usual);
    }
    // A hub of this user that says where its state is knows better than what may have been left behind.
    let says = |hub: &&RunningHub| {
        hub.says.has_home && (hub.says.hapi_home.is_some() || hub.says.database.is_some())
    };
    let mut homes: BTreeSet<(PathBuf, PathBuf)> = running
        .iter()
        .filter(says)
        .map(|hub| (hub.home(home), hub.database.clone()))
        .collect();
    if homes.is_empty() {
        if usual.0.join("hapi.db").exists() {
            return Ok(usual);
        }
        homes.extend(
            running
                .iter()
                .map(|hub| (hub.home(home), hub.database.clone())),
        );
    }
    let mut each = homes.iter();
    match (each.next(), each.next()) {
        (None, _) => Ok(usual),
        (Some((dir, database)), None) => {
            let pid = running
                .iter()
                .find(|hub| hub.database == *database)
                .map_or(0, |hub| hub.pid);
            Ok((dir.clone(), format!("the running hub, process {pid}")))
        }
        _ => {
            let each: Vec<_> = homes
                .iter()
                .map(|(dir, database)| format!("`{}` (`{}`)", dir.display(), database.display()))
                .collect();
            Err(Error::usage(
                format!("several hubs run here: {}", each.join(", ")),
                "choose one: `--hapi-home DIR`; for each other one a profile of its own: `--profile NAME`",
            ))
        }
    }
}

fn in_a_container(hub: &RunningHub) -> String {
    format!(
        "process {} has `{}` open in a container, and this machine has that file nowhere: put HAPI's home on a volume and give its folder here with `--hapi-home`, or run rustic-hapi in the container",
        hub.pid,
        hub.database.display()
    )
}

fn unreadable(file: &ServiceFile) -> String {
    format!(
        "this user may not read `{}` ({}), so no snapshot has it: let root run rustic-hapi (`sudo rustic-hapi schedule --system --install`), or back it up separately",
        file.path.display(),
        file.what
    )
}

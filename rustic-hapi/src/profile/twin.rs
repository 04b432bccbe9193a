//! A twin is another profile beside this one that has the same hub id and repository, and another database:
//! a copy, of which somebody forgot to change the id. Their snapshots would be taken for one hub's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::profile::Profile;
use crate::profile::lookup::Lookup;
use crate::profile::written::RawProfile;

impl Profile {
    /// Makes sure that there is none. A file that cannot be read, or is no profile, is none.
    ///
    /// # Errors
    /// [`Error::Usage`] with its file.
    pub(crate) fn has_no_twin(&self) -> Result<(), Error> {
        if !self.hub.is_written {
            return Ok(());
        }
        for path in self.beside() {
            let raw = fs::read_to_string(&path).ok();
            let Some(raw) = raw.and_then(|text| toml::from_str::<RawProfile>(&text).ok()) else {
                continue;
            };
            let text = fs::read_to_string(&self.file).unwrap_or_default();
            let Ok(mine) = toml::from_str::<RawProfile>(&text) else {
                return Ok(());
            };
            let of_database = |raw: &RawProfile| {
                let paths = raw
                    .source
                    .iter()
                    .filter(|s| s.kind == hapi_sources::Kind::Sqlite);
                let paths: Vec<String> = paths.map(|s| s.path.clone()).collect();
                (raw.hapi_home.clone(), paths)
            };
            if raw.hub_id == mine.hub_id
                && raw.repository.location == mine.repository.location
                && of_database(&raw) != of_database(&mine)
            {
                return Err(Error::usage(
                    format!(
                        "the profiles `{}` and `{}` have the same `hub-id` and repository, and different databases",
                        self.file.display(),
                        path.display()
                    ),
                    "in the copy, give `host` another name and remove `hub-id`; then `rustic-hapi init --profile COPY`",
                ));
            }
        }
        Ok(())
    }

    /// The databases of the other profiles in its folder: those of other hubs.
    pub(crate) fn databases_beside(&self, lookup: &Lookup) -> BTreeSet<PathBuf> {
        let load = |path: PathBuf| {
            let profile = Some(path.to_string_lossy().into_owned());
            let lookup = Lookup {
                profile,
                ..lookup.clone()
            };
            Profile::load(&lookup).ok()
        };
        let others = self.beside().filter_map(load);
        others
            .flat_map(|other| other.databases().map(real).collect::<Vec<_>>())
            .collect()
    }

    /// The other files in its folder that may be profiles.
    fn beside(&self) -> impl Iterator<Item = PathBuf> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let own = real(&self.file);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(move |path| path.extension().is_some_and(|e| e == "toml") && real(path) != own)
    }
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

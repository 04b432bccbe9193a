//! A twin is another profile beside this one that has the same hub id and repository, and another database:
//! a copy, of which somebody forgot to change the id. Their snapshots would be taken for one hub's.

use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::profile::Profile;
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
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let own = real(&self.file);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_profile = path.extension().is_some_and(|e| e == "toml") && real(&path) != own;
            let raw = is_profile.then(|| fs::read_to_string(&path).ok()).flatten();
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
}

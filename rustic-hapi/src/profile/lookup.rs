//! A lookup says where a profile is looked for, and what wins over the file.

use std::path::{Path, PathBuf};

use crate::destination::variables::{self, Variables};
use crate::error::ProfileError;
use crate::machine::agents::{self, Moved};

/// Where a profile is looked for, and what wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// A name, or a path (anything with a `/` or ending in `.toml`). `hapi` unless given.
    pub profile: Option<String>,
    /// What `~` means; `HOME` unless given.
    pub home: Option<PathBuf>,
    /// Wins over `[repository] location`.
    pub repository: Option<String>,
    /// Wins over `[repository] password-file`.
    pub password_file: Option<PathBuf>,
    /// The copy that is meant in place of the main repository.
    pub from: Option<String>,
    /// The environment, so that a test needs none.
    pub env: Environment,
}

/// The environment variables that matter, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `HOME`, where it is no absolute path.
    pub relative_home: Option<PathBuf>,
    /// `HAPI_HOME`.
    pub hapi_home: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub state: Option<PathBuf>,
    /// Where agents have their transcripts, by their variables.
    pub agents: Moved,
    /// restic's own.
    pub restic: Variables,
}

impl Environment {
    /// Reads the process's environment; empty and relative values count as absent, as the XDG base
    /// directory specification has it.
    pub fn from_process() -> Self {
        let var = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
        };
        Self {
            home: var("HOME"),
            relative_home: std::env::var_os("HOME")
                .map(PathBuf::from)
                .filter(|home| home.is_relative() && !home.as_os_str().is_empty()),
            hapi_home: var("HAPI_HOME"),
            config: var("XDG_CONFIG_HOME"),
            state: var("XDG_STATE_HOME"),
            agents: agents::VARIABLES
                .iter()
                .filter_map(|(name, ..)| Some((*name, var(name)?)))
                .collect(),
            restic: Variables::from_process(),
        }
    }
}

impl Lookup {
    /// What `~` means.
    ///
    /// # Errors
    /// Neither `--home` nor `HOME` says; `HOME` is not absolute; or a snapshot cannot hold such a path.
    pub fn home(&self) -> Result<PathBuf, ProfileError> {
        let Some(home) = self.home.as_ref().or(self.env.home.as_ref()) else {
            return Err(match self.env.relative_home.clone() {
                Some(home) => ProfileError::RelativeHome { home },
                None => ProfileError::NoHome,
            });
        };
        // `~` stands in every path of the snapshot, so it has to be absolute and tidy.
        let home = std::path::absolute(home).map_err(|_| ProfileError::NoHome)?;
        in_utf8("the home directory", &home)?;
        Ok(home.components().collect())
    }

    /// The same, as the main repository is found. Where a copy is meant, `RESTIC_REPOSITORY` may name that one
    /// (`rustic-hapi env --from NAME`), and is no contradiction.
    pub(super) fn of_the_main(&self) -> Self {
        let mut main = self.clone();
        if main.from.take().is_some() {
            main.repository = None;
            main.password_file = None;
            main.env.restic = main.env.restic.without(variables::REPOSITORY);
        }
        main
    }

    /// The repository that a flag or a variable names.
    pub(crate) fn repository(&self) -> Option<String> {
        let said = || self.env.restic.get(variables::REPOSITORY);
        let flag = self.repository.clone();
        flag.or_else(|| said().map(|text| text.to_string()))
    }

    /// The folder for profiles and password files of this user.
    pub fn config_dir(&self) -> Result<PathBuf, ProfileError> {
        let base = match (&self.env.config, &self.home) {
            (Some(config), None) => config.clone(),
            _ => self.home()?.join(".config"),
        };
        Ok(base.join("rustic-hapi"))
    }

    /// The folder that a profile's state is in, whether or not the profile makes sense.
    ///
    /// # Errors
    /// [`ProfileError::NoHome`].
    pub(crate) fn state(&self) -> Result<PathBuf, ProfileError> {
        let home = self.home()?;
        let name = self.name();
        Ok(self.state_dir(&home).join("rustic-hapi").join(name))
    }

    /// The profile's name, whether or not it makes sense.
    pub(crate) fn name(&self) -> String {
        let wanted = self.profile.as_deref().unwrap_or("hapi");
        Path::new(wanted).file_stem().map_or_else(
            || "hapi".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        )
    }

    /// The folder for state of this user.
    pub(super) fn state_dir(&self, home: &Path) -> PathBuf {
        match (&self.env.state, &self.home) {
            (Some(state), None) => state.clone(),
            _ => home.join(".local/state"),
        }
    }

    /// The files that may hold the profile, in order.
    pub fn candidates(&self) -> Result<Vec<PathBuf>, ProfileError> {
        let wanted = self.profile.as_deref().unwrap_or("hapi");
        if is_a_path(wanted) {
            return Ok(vec![PathBuf::from(wanted)]);
        }
        let file = format!("{wanted}.toml");
        Ok(vec![
            self.config_dir()?.join(&file),
            Path::new("/etc/rustic-hapi").join(&file),
        ])
    }

    /// The profile's file, if there is one.
    pub fn find(&self) -> Result<Option<PathBuf>, ProfileError> {
        for path in self.candidates()? {
            match path.try_exists() {
                Ok(true) => return Ok(Some(path)),
                Ok(false) => {}
                Err(error) => return Err(ProfileError::Read { path, error }),
            }
        }
        Ok(None)
    }
}

/// The text of a path that a snapshot or the profile is to hold: neither can hold one that is not UTF-8.
///
/// # Errors
/// [`ProfileError::NotUtf8`].
pub(crate) fn in_utf8<'a>(what: &'static str, path: &'a Path) -> Result<&'a str, ProfileError> {
    let not_utf8 = || ProfileError::NotUtf8 {
        what,
        path: path.into(),
    };
    path.to_str().ok_or_else(not_utf8)
}

/// Whether a profile is named by its path.
pub(crate) fn is_a_path(profile: &str) -> bool {
    profile.contains('/') || profile.ends_with(".toml")
}

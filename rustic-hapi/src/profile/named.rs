//! Which repository is meant, and which password: a flag says, else the profile, else restic's variables, which
//! must not name another repository.

use std::path::{Path, PathBuf};

use crate::destination::location::Location;
use crate::destination::variables;
use crate::error::ProfileError;
use crate::profile::at::At;
use crate::profile::lookup::Lookup;
use crate::profile::reach::Password;

impl Lookup {
    /// The password that a flag or a variable names.
    ///
    /// # Errors
    /// Variables disagree.
    pub(crate) fn password(&self) -> Result<Option<Password>, ProfileError> {
        Named::default().the_password(self, None, None, None)
    }
}

/// What names the repository: a flag, then the profile, then restic's variables, which must not name
/// another one.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) location: Option<Location>,
    pub(super) password: Option<Password>,
    pub(super) from_variables: Vec<&'static str>,
}

impl Named {
    /// `at` and what follows are the profile's, where there is one.
    pub(super) fn of(
        lookup: &Lookup,
        at: Option<&At<'_>>,
        location: Option<&str>,
        file: Option<PathBuf>,
        command: Option<String>,
    ) -> Result<Self, ProfileError> {
        let mut named = Self::default();
        named.location = named.the_location(lookup, at, location)?;
        named.password = named.the_password(lookup, at, file, command)?;
        Ok(named)
    }

    fn the_location(
        &mut self,
        lookup: &Lookup,
        at: Option<&At<'_>>,
        written: Option<&str>,
    ) -> Result<Option<Location>, ProfileError> {
        let home = lookup.home()?;
        let parse = |text: &str, by: &str| {
            Location::parse(text, &home).map_err(|fact| {
                let hint = "write an absolute path, or a location of restic's".to_owned();
                match at {
                    Some(at) if by.is_empty() => {
                        at.value(&at.repository("location"), fact, Some(hint))
                    }
                    _ => ProfileError::Variable {
                        name: by.to_owned(),
                        fact: format!("names no repository: {fact}"),
                        hint,
                    },
                }
            })
        };
        if let Some(text) = &lookup.repository {
            return parse(text, "--repository").map(Some);
        }
        let written = written.map(|text| parse(text, "")).transpose()?;
        let Some(said) = lookup.env.restic.get(variables::REPOSITORY) else {
            return Ok(written);
        };
        let said_location = parse(said, variables::REPOSITORY)?;
        let Some(written) = written else {
            self.from_variables.push(variables::REPOSITORY);
            return Ok(Some(said_location));
        };
        // Who has the credentials may differ.
        let same = |a: String, b: String| a.trim_end_matches('/') == b.trim_end_matches('/');
        let agree = match (written.has_credentials(), said_location.has_credentials()) {
            (true, true) => same(written.with_credentials(), said_location.with_credentials()),
            _ => same(
                written.without_credentials(),
                said_location.without_credentials(),
            ),
        };
        if !agree {
            return Err(variables::disagree(
                variables::REPOSITORY,
                "`location` in the profile",
            ));
        }
        if said_location.has_credentials() && !written.has_credentials() {
            self.from_variables.push(variables::REPOSITORY);
            return Ok(Some(said_location));
        }
        Ok(Some(written))
    }

    fn the_password(
        &mut self,
        lookup: &Lookup,
        at: Option<&At<'_>>,
        file: Option<PathBuf>,
        command: Option<String>,
    ) -> Result<Option<Password>, ProfileError> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
        if let Some(file) = &lookup.password_file {
            return Ok(Some(Password::File(absolute(file))));
        }
        if let (Some(_), Some(_), Some(at)) = (&file, &command, at) {
            return Err(at.value(
                &at.repository("password-command"),
                "`password-file` is set as well".into(),
                Some("remove one of them".into()),
            ));
        }
        if let Some(command) = command {
            return Ok(Some(Password::Command(command)));
        }
        if let Some(file) = file {
            return Ok(Some(Password::File(file)));
        }
        let said = |name| lookup.env.restic.get(name);
        match (
            said(variables::PASSWORD_FILE),
            said(variables::PASSWORD_COMMAND),
        ) {
            (Some(_), Some(_)) => Err(variables::disagree(
                variables::PASSWORD_COMMAND,
                &format!("`{}`", variables::PASSWORD_FILE),
            )),
            (Some(file), None) => {
                self.from_variables.push(variables::PASSWORD_FILE);
                Ok(Some(Password::File(absolute(Path::new(file.as_str())))))
            }
            (None, Some(command)) => {
                self.from_variables.push(variables::PASSWORD_COMMAND);
                Ok(Some(Password::Command(command.to_string())))
            }
            (None, None) => Ok(said(variables::PASSWORD).map(|password| {
                self.from_variables.push(variables::PASSWORD);
                Password::Given(password.clone())
            })),
        }
    }
}

//! Variables are restic's own and rustic's twins of them: people have them in their shells. They count
//! where nothing else says it; where something else says otherwise, nobody guesses.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::error::ProfileError;

/// What the variables say that restic and rustic open a repository by.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<&'static str, Zeroizing<String>>);

/// Where the repository is.
pub(crate) const REPOSITORY: Twins = ["RESTIC_REPOSITORY", "RUSTIC_REPOSITORY"];
/// The file that holds its password.
pub(crate) const PASSWORD_FILE: Twins = ["RESTIC_PASSWORD_FILE", "RUSTIC_PASSWORD_FILE"];
/// The program that prints its password.
pub(crate) const PASSWORD_COMMAND: Twins = ["RESTIC_PASSWORD_COMMAND", "RUSTIC_PASSWORD_COMMAND"];
/// The user of a REST server.
pub(crate) const REST_USERNAME: Twins = ["RESTIC_REST_USERNAME", "RUSTIC_REST_USERNAME"];
/// The password of a REST server.
pub(crate) const REST_PASSWORD: Twins = ["RESTIC_REST_PASSWORD", "RUSTIC_REST_PASSWORD"];
/// The certificates of private authorities.
pub(crate) const CACERT: Twins = ["RESTIC_CACERT", "RUSTIC_CACERT"];

/// restic's name and rustic's name of one thing.
pub(crate) type Twins = [&'static str; 2];

const ALL: [Twins; 6] = [
    REPOSITORY,
    PASSWORD_FILE,
    PASSWORD_COMMAND,
    REST_USERNAME,
    REST_PASSWORD,
    CACERT,
];

/// The twins that a name is one of.
pub(crate) fn twins_of(name: &str) -> Option<Twins> {
    ALL.into_iter().find(|twins| twins.contains(&name))
}

/// What a variable says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    pub(crate) by: &'static str,
    pub(crate) text: &'a str,
}

impl Variables {
    /// Those of this process; empty ones count as absent, as with restic.
    pub fn from_process() -> Self {
        Self::from_pairs(|name| std::env::var_os(name)?.into_string().ok())
    }

    /// Those that `value` has.
    pub fn from_pairs(value: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name| {
            let text = value(name).filter(|text| !text.is_empty())?;
            Some((name, Zeroizing::new(text)))
        };
        Self(ALL.into_iter().flatten().filter_map(given).collect())
    }

    /// That no two of them disagree, also of those that this profile has no use for.
    ///
    /// # Errors
    /// Two do.
    pub(crate) fn agree(&self) -> Result<(), ProfileError> {
        ALL.into_iter()
            .try_for_each(|twins| self.get(twins).map(drop))
    }

    /// What both of two names say, or the one that is there.
    ///
    /// # Errors
    /// They say different things.
    pub(crate) fn get(&self, twins: Twins) -> Result<Option<Said<'_>>, ProfileError> {
        let mut said: Option<Said<'_>> = None;
        for name in twins {
            let Some(text) = self.0.get(name) else {
                continue;
            };
            match said {
                Some(other) if other.text != text.as_str() => {
                    return Err(disagree(other.by, &format!("`{name}`")));
                }
                Some(_) => {}
                None => said = Some(Said { by: name, text }),
            }
        }
        Ok(said)
    }
}

/// A variable says something else than `other` does. What they say is not told: it may be a password.
pub(crate) fn disagree(name: &'static str, other: &str) -> ProfileError {
    ProfileError::Variable {
        name: name.into(),
        fact: format!("says something else than {other}"),
        hint: format!(
            "nothing was done, because either may be meant: `unset {name}`, or make them agree"
        ),
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_that_disagree_are_an_error_that_tells_no_value() {
        let variables = Variables::from_pairs(|name| match name {
            "RESTIC_REST_PASSWORD" => Some("s3cret".into()),
            "RUSTIC_REST_PASSWORD" => Some("t0psecret".into()),
            "RUSTIC_REPOSITORY" => Some("/mnt/b".into()),
            "RESTIC_CACERT" => Some(String::new()),
            _ => None,
        });
        let error = variables.get(REST_PASSWORD).unwrap_err().to_string();
        assert!(error.contains("RESTIC_REST_PASSWORD"), "{error}");
        assert!(error.contains("RUSTIC_REST_PASSWORD"), "{error}");
        assert!(!error.contains("s3cret") && !error.contains("t0p"));
        assert!(!format!("{variables:?}").contains("s3cret"));
        assert_eq!(
            variables.get(REPOSITORY).unwrap().map(|said| said.by),
            Some("RUSTIC_REPOSITORY")
        );
        assert!(variables.get(CACERT).unwrap().is_none());
    }
}

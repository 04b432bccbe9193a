//! Access is what a destination's server wants to know beyond the location: names, passwords, a
//! certificate authority. It comes from the environment and from the profile's environment file, and
//! it is never printed unasked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::destination::variables::{self, Variables};
use crate::error::ProfileError;
use crate::machine::private_files::read_private;

/// What a server wants to know beyond the location.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The user of a REST server (`RESTIC_REST_USERNAME`), where the location names none.
    pub rest_username: Option<String>,
    /// The password of a REST server (`RESTIC_REST_PASSWORD`), where the location names none.
    pub rest_password: Option<Zeroizing<String>>,
    /// A file with the certificates (PEM) of those who may vouch for a server, beside the system's
    /// (`RESTIC_CACERT`).
    pub cacert: Option<PathBuf>,
    /// The variables of this process that it takes from: a timer will not have them.
    pub from_process: Vec<&'static str>,
    /// What programs that reach the destination for us get into their environment, beyond what is in
    /// ours (`AWS_ACCESS_KEY_ID`, `B2_ACCOUNT_ID`, …).
    pub environment: BTreeMap<String, Zeroizing<String>>,
}

impl Access {
    /// What the profile's environment file says, else the variables.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(crate) fn of(variables: &Variables, file: Option<&Path>) -> Result<Self, ProfileError> {
        let mut environment = match file {
            Some(path) => read(path)?,
            None => BTreeMap::new(),
        };
        let mut from_process = Vec::new();
        // An empty one is absent, and these are ours to use, and no business of other programs.
        let mut said = |name: &'static str| {
            let written = environment.remove(name).filter(|text| !text.is_empty());
            written.or_else(|| {
                let here = variables.get(name)?;
                from_process.push(name);
                Some(here.clone())
            })
        };
        let rest_username = said(variables::REST_USERNAME).map(|user| user.to_string());
        let rest_password = said(variables::REST_PASSWORD);
        let cacert = said(variables::CACERT).map(|path| PathBuf::from(path.as_str()));
        Ok(Self {
            rest_username,
            rest_password,
            cacert,
            from_process,
            environment,
        })
    }
}

/// Reads an environment file: `NAME=VALUE` a line, as systemd's `EnvironmentFile=` and shells have it.
///
/// # Errors
/// It can be read by others, or has a line that is none of those. Values are not told.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Zeroizing<String>>, ProfileError> {
    let wrong = |fact: String, hint: &str| wrong(path, fact, hint);
    let text = text(path)?;
    let mut found = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line
            .split_once('=')
            .filter(|(name, _)| is_name(name))
            .ok_or_else(|| {
                wrong(
                    format!("line {number} is not `NAME=VALUE`"),
                    "a line is `NAME=VALUE`, a comment that begins with `#`, or empty",
                )
            })?;
        let of_restic = name.starts_with("RESTIC_") || name.starts_with("RUSTIC_");
        if of_restic && !variables::OF_SERVERS.contains(&name) {
            return Err(wrong(
                format!("line {number}: `{name}` does not belong into this file"),
                "`location`, `password-file` and `password-command` stand in `[repository]`; a server's are `RESTIC_REST_USERNAME`, `RESTIC_REST_PASSWORD` and `RESTIC_CACERT`",
            ));
        }
        let value = value_of(value).ok_or_else(|| {
            wrong(
                format!("line {number}: the quotes do not match"),
                "a value ends on its line: close the quotes, and write a backslash as two",
            )
        })?;
        if found.insert(name.to_owned(), value).is_some() {
            return Err(wrong(
                format!("line {number}: `{name}` is given twice"),
                "remove one of them",
            ));
        }
    }
    Ok(found)
}

/// The text of an environment file.
///
/// # Errors
/// It cannot be read, or others can read it.
pub(crate) fn text(path: &Path) -> Result<Zeroizing<String>, ProfileError> {
    let missing = "it holds what the destination wants to know, a `NAME=VALUE` a line, mode 0600";
    read_private(path, missing).map_err(|unfit| wrong(path, unfit.fact, &unfit.hint))
}

fn wrong(path: &Path, fact: String, hint: &str) -> ProfileError {
    ProfileError::Variable {
        name: path.display().to_string(),
        fact: format!("(the environment file) {fact}"),
        hint: hint.into(),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A value as systemd reads it in an `EnvironmentFile=` (systemd, `env-file.c`): quotes that it begins with are
/// taken away, and those that follow others; a backslash takes the next character as it stands, within double
/// quotes only `"`, `\`, `$` and a backtick. `None` where it goes on in the next line.
fn value_of(text: &str) -> Option<Zeroizing<String>> {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters = text.chars();
    let mut begins = true;
    while let Some(character) = characters.next() {
        match character {
            '\'' if begins => loop {
                match characters.next()? {
                    '\'' => break,
                    inner => value.push(inner),
                }
            },
            '"' if begins => loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => match characters.next()? {
                        special @ ('"' | '\\' | '$' | '`') => value.push(special),
                        other => value.extend(['\\', other]),
                    },
                    inner => value.push(inner),
                }
            },
            '\\' => {
                value.push(characters.next()?);
                begins = false;
            }
            blank if begins && blank.is_whitespace() => {}
            other => {
                value.push(other);
                begins = false;
            }
        }
    }
    Some(value)
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("cacert", &self.cacert)
            .field("environment", &self.environment.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn an_environment_file_says_what_the_server_and_rclone_want_to_know() {
        let file = file(
            "# the bucket\nexport AWS_ACCESS_KEY_ID=AKIA1\nAWS_SECRET_ACCESS_KEY='a b=c'\n\nRESTIC_REST_USERNAME=joe\nRESTIC_REST_PASSWORD=\"s3cret\"\n",
        );
        let access = Access::of(&Variables::default(), Some(file.path())).unwrap();
        assert_eq!(access.rest_username.as_deref(), Some("joe"));
        assert_eq!(
            access.rest_password.as_ref().map(|p| p.as_str()),
            Some("s3cret")
        );
        let names: Vec<_> = access.environment.keys().collect();
        assert_eq!(names, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
        assert_eq!(
            access.environment["AWS_SECRET_ACCESS_KEY"].as_str(),
            "a b=c"
        );
        assert!(!format!("{access:?}").contains("s3cret"));
    }

    #[test]
    fn a_value_is_what_systemd_makes_of_it() {
        for (written, meant) in [
            (r"plain", "plain"),
            (r"ab\ cd", "ab cd"),
            (r#"ab"c d"ef"#, r#"ab"c d"ef"#),
            (r#""c d"ef"#, "c def"),
            (r#""a"'b' c"#, "abc"),
            (r#""q\"\\\$\`\n""#, r#"q"\$`\n"#),
            (r"'it\s'", r"it\s"),
            ("", ""),
        ] {
            let value = value_of(written);
            assert_eq!(value.as_ref().map(|v| v.as_str()), Some(meant), "{written}");
        }
        for open in [r#""a"#, "'a", r"a\", r#""a\"#] {
            assert!(value_of(open).is_none(), "{open}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_or_that_says_something_else_is_refused_without_its_values() {
        let readable = file("RESTIC_REST_PASSWORD=s3cret\n");
        fs::set_permissions(readable.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let odd = [
            file("s3cret\n"),
            file("A=\"s3cret\n"),
            file("A=1\nA=s3cret\n"),
            file("RESTIC_PASSWORD_FILE=/s3cret\n"),
            file("RUSTIC_REST_PASSWORD=s3cret\n"),
            readable,
        ];
        for file in odd {
            let error = Access::of(&Variables::default(), Some(file.path())).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn the_file_counts_before_the_variables() {
        let here = Variables::from_pairs(|name| match name {
            variables::REST_USERNAME => Some("jane".into()),
            variables::REST_PASSWORD => Some("s3cret".into()),
            _ => None,
        });
        let there = file("RESTIC_REST_USERNAME=joe\n");
        let access = Access::of(&here, Some(there.path())).unwrap();
        assert_eq!(access.rest_username.as_deref(), Some("joe"));
        assert_eq!(access.from_process, [variables::REST_PASSWORD]);
    }
}

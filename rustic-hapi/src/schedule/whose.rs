//! A name has one schedule, and two profiles may have one name: those of two homes, or of two users. One must not
//! take the other's place, for then that one's hub is no longer saved.

use std::fs;
use std::path::{Path, PathBuf};

use super::request::Kind;
use crate::error::Error;
use crate::machine::shell::quoted;
use crate::profile::lookup::Lookup;

/// The program and the profile that a line of a crontab or of a unit calls.
fn calls(text: &str) -> impl Iterator<Item = (Option<PathBuf>, Option<PathBuf>)> {
    text.lines().filter_map(|line| {
        let line = line.strip_prefix("ExecStart=").unwrap_or(line);
        let words = shell_words::split(line).unwrap_or_default();
        let option = words.iter().position(|word| word == "--profile")?;
        // The program stands before its options.
        let program = words[..option].iter().rfind(|word| word.starts_with('/'));
        let path = |word: &String| PathBuf::from(word);
        Some((program.map(path), words.get(option + 1).map(path)))
    })
}

/// The first program or profile in the lines of a crontab or a unit that is not there.
pub(super) fn missing(text: &str) -> Option<PathBuf> {
    let named = calls(text).flat_map(|(program, profile)| program.into_iter().chain(profile));
    let mut gone = named.filter(|path| path.is_absolute() && is_gone(path));
    gone.next()
}

/// Another profile that is called, and that is there.
pub(super) fn another(text: &str, ours: Option<&Path>) -> Option<PathBuf> {
    let ours = ours?;
    let real = |path: &Path| fs::canonicalize(path).ok();
    let is_ours =
        |path: &Path| path == ours || real(path).is_some_and(|path| Some(path) == real(ours));
    let mut others = calls(text)
        .filter_map(|(_, profile)| profile)
        .filter(|path| !is_ours(path) && !is_gone(path));
    others.next()
}

/// The file of the profile that is meant, as far as that is known: it need not be there any more, and root does not
/// look where a user's is.
pub(super) fn meant(lookup: &Lookup) -> Option<PathBuf> {
    let mut candidates = lookup.candidates().ok()?;
    let found = match lookup.find() {
        Ok(Some(found)) => found,
        _ if candidates.len() == 1 => candidates.remove(0),
        _ => return None,
    };
    Some(std::path::absolute(&found).unwrap_or(found))
}

/// Leaves the schedule of another profile alone.
///
/// # Errors
/// [`Error::Usage`] where the text calls one.
pub(super) fn refuse_another(
    text: &str,
    lookup: &Lookup,
    what: &str,
    kind: Kind,
) -> Result<(), Error> {
    let Some(other) = another(text, meant(lookup).as_deref()) else {
        return Ok(());
    };
    let path = other.display();
    let profile = quoted(&path.to_string());
    Err(Error::usage(
        format!("{what} runs another profile of this name, `{path}`"),
        format!(
            "nothing was changed; rename this profile, and its `.password` file with it; or give up that schedule: \
             `rustic-hapi --profile {profile} schedule {}--remove`",
            kind.flag()
        ),
    ))
}

fn is_gone(path: &Path) -> bool {
    !path.try_exists().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_what_is_gone_is_seen() {
        let here = std::env::current_exe().unwrap();
        let here = here.to_str().unwrap();
        for (line, gone) in [
            (
                format!("0 6 * * * /usr/bin/env HOME=/h {here} --profile {here} -q snapshot"),
                None,
            ),
            (
                format!(
                    "0 6 * * * /usr/bin/env HOME=/h {here} --profile '/n o/hapi.toml' snapshot"
                ),
                Some("/n o/hapi.toml"),
            ),
            (
                format!("[Service]\nExecStart=\"/n/rustic-hapi\" --profile {here} snapshot"),
                Some("/n/rustic-hapi"),
            ),
        ] {
            assert_eq!(missing(&line), gone.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn another_profile_is_one_that_is_there_by_another_path() {
        let dir = tempfile::tempdir().unwrap();
        let [one, link, gone] = ["one.toml", "link.toml", "gone.toml"].map(|n| dir.path().join(n));
        fs::write(&one, "").unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let line = |path: &Path| format!("0 6 * * * /b --profile {} snapshot", path.display());
        let mine = dir.path().join("mine.toml");
        assert_eq!(another(&line(&one), Some(&mine)), Some(one.clone()));
        assert_eq!(another(&line(&one), Some(&link)), None);
        // That of a home that moved.
        assert_eq!(another(&line(&gone), Some(&mine)), None);
        assert_eq!(another("", Some(&mine)), None);
    }
}

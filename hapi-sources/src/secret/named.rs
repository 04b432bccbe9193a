//! A named file is one whose path stands in another file: a hub's settings name the keys of its push services.
//!
//! Who writes the settings chooses the path. So a run as root takes nothing that the owner of the settings' folder
//! could not read.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use crate::file::pinned::Pinned;
use crate::source::{Kind, Scope, Source};

/// Settings and keys are small.
pub(super) const LARGEST: u64 = 1 << 20;

/// The file that a secret's path stands for; `None` where there is none. An error is a reason.
pub(crate) fn file_of(source: &Source) -> Result<Option<PathBuf>, String> {
    let Scope::NamedBy { key, home } = &source.scope else {
        return Ok(Some(source.path.clone()));
    };
    let Some(settings) = read(&source.path)? else {
        return Ok(None);
    };
    let value = serde_json::Deserializer::from_slice(&settings)
        .deserialize_map(Member(key))
        .map_err(|_| "it is not a JSON object".to_owned())?;
    let Some(value) = value.as_deref().map(str::trim).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    // The hub replaces the first character, whatever comes after it.
    let path = match value.strip_prefix('~') {
        Some(rest) => PathBuf::from(format!("{}{rest}", home.display())),
        None => PathBuf::from(value),
    };
    match path.is_absolute() {
        true => Ok(Some(path.components().collect())),
        false => Err(format!(
            "`{key}` is `{}`, which is not an absolute path",
            path.display()
        )),
    }
}

/// The file that a [`Scope::NamedBy`] means, where it is there and none of these sources takes it by its path.
pub fn named_file(source: &Source, sources: &[Source]) -> Option<PathBuf> {
    let path = file_of(source).ok().flatten()?;
    (path.is_file() && !is_taken_by_another(&path, sources)).then_some(path)
}

/// Whether another source takes the file by its own path.
pub(crate) fn is_taken_by_another(path: &Path, sources: &[Source]) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    sources.iter().any(|source| {
        matches!(source.kind, Kind::Secret | Kind::File)
            && source.scope == Scope::File
            && (source.path == path || real(&source.path) == real(path))
    })
}

/// Whether the owner of the settings' folder could not read what this process, as root, would.
pub(super) fn is_out_of_bounds(pinned: &Pinned, settings: &Path) -> bool {
    let Some(folder) = settings.parent().and_then(|p| fs::metadata(p).ok()) else {
        return true;
    };
    if !geteuid().is_root() || folder.uid() == 0 {
        return false;
    }
    let may = |stat: &Metadata, bit: u32| {
        let shift = match () {
            () if stat.uid() == folder.uid() => 6,
            () if stat.gid() == folder.gid() => 3,
            () => 0,
        };
        stat.mode() & (bit << shift) != 0
    };
    // Where the pinned file is, not where a link led to a moment ago.
    let Some(path) = pinned.real_path() else {
        return true;
    };
    let enters = |folder: &Path| fs::symlink_metadata(folder).is_ok_and(|stat| may(&stat, 1));
    !(may(&pinned.stat, 4) && path.ancestors().skip(1).all(enters))
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match open {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    whole(file).map(Some).map_err(|error| error.to_string())
}

fn whole(file: File) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let stat = file.metadata()?;
    if !stat.is_file() || stat.len() > LARGEST {
        return Err(std::io::Error::other("it is not a small file"));
    }
    // Never moved once it is allocated, so that nothing of it is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 1));
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Finds one member of an object, and keeps nothing of the others.
struct Member<'a>(&'a str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                let value: serde_json::Value = map.next_value()?;
                found = value.as_str().map(str::to_owned);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_names_a_file_as_the_hub_reads_it() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("settings.json");
        let source = Source {
            scope: Scope::NamedBy {
                key: "k".into(),
                home: "/home/u".into(),
            },
            ..Source::new("s", Kind::Secret, &path)
        };
        assert_eq!(file_of(&source), Ok(None), "no settings");
        for (text, named) in [
            (
                r#"{"k": "~/a.json", "x": {"k": 1}}"#,
                Some("/home/u/a.json"),
            ),
            (r#"{"k": " /etc//a.p8 "}"#, Some("/etc/a.p8")),
            (r#"{"k": ""}"#, None),
            (r#"{"k": null}"#, None),
            (r#"{"other": "/a"}"#, None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(file_of(&source), Ok(named.map(PathBuf::from)), "{text}");
        }
        for text in [r#"{"k": "keys/a.json"}"#, "[]", "{"] {
            fs::write(&path, text).unwrap();
            assert!(file_of(&source).is_err(), "{text}");
        }
    }
}

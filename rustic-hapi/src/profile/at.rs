//! Where something is written: the file and the key that a message names.

use std::path::{Path, PathBuf};

use crate::error::ProfileError;

/// The file that messages name.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) path: &'a Path,
    /// The `[[copy]]` that is read in place of `[repository]` and `[retention]`.
    pub(super) copy: Option<&'a str>,
}

impl At<'_> {
    /// A key of the repository's table.
    pub(super) fn repository(&self, key: &str) -> String {
        format!("`{key}` in {}", self.table("repository"))
    }

    /// A key of the retention's table.
    pub(super) fn retention(&self, key: &str) -> String {
        format!("`{key}` in {}", self.table("retention"))
    }

    fn table(&self, main: &str) -> String {
        match self.copy {
            Some(name) => format!("the `[[copy]]` `{name}`"),
            None => format!("`[{main}]`"),
        }
    }

    pub(super) fn value(&self, key: &str, fact: String, hint: Option<String>) -> ProfileError {
        ProfileError::Value {
            path: self.path.into(),
            key: key.into(),
            fact,
            hint,
        }
    }

    /// Makes a path absolute: `/…`, `~/…`, `$HAPI_HOME/…`.
    pub(super) fn path(
        &self,
        key: &str,
        text: &str,
        home: &Path,
        hapi_home: Option<&Path>,
    ) -> Result<PathBuf, ProfileError> {
        let absolute = match (
            text.strip_prefix('~'),
            text.strip_prefix("$HAPI_HOME"),
            hapi_home,
        ) {
            (Some(rest), _, _) if rest.is_empty() || rest.starts_with('/') => {
                home.join(rest.trim_start_matches('/'))
            }
            (_, Some(rest), Some(base)) if rest.is_empty() || rest.starts_with('/') => {
                base.join(rest.trim_start_matches('/'))
            }
            _ => PathBuf::from(text),
        };
        if !absolute.is_absolute() {
            return Err(self.value(
                key,
                format!("`{text}` is not an absolute path"),
                Some("start it with `/`, `~/` or `$HAPI_HOME/`".into()),
            ));
        }
        if absolute
            .components()
            .any(|c| c == std::path::Component::ParentDir)
        {
            return Err(self.value(
                key,
                format!("`{text}` contains `..`"),
                Some("write the path out".into()),
            ));
        }
        if text.contains('\0') {
            return Err(self.value(key, "it contains a NUL character".into(), None));
        }
        Ok(absolute.components().collect())
    }
}

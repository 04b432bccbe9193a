//! Where something is written: the file and the key that a message names.

use std::path::{Path, PathBuf};

use crate::error::ProfileError;

/// The file that messages name.
pub(super) struct At<'a> {
    pub(super) path: &'a Path,
}

impl At<'_> {
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

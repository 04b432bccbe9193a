//! A scratch folder is where a drill restores to.

use std::path::{Path, PathBuf};

use hapi_sources::Staging;

use crate::error::Error;
use crate::machine::private_files::private_staging;
use crate::machine::target::Target;

/// The folder of one drill, 0700. It is locked while the drill runs and removed in the end, by a later
/// run's sweep if need be; what is to be kept is moved out of it.
pub(super) struct Scratch {
    staging: Staging,
    base: PathBuf,
    keep: bool,
}

impl Scratch {
    /// `named` is the folder that was named, else it is made where captures are staged.
    pub(super) fn make(named: Option<&Path>, staging: &Path, keep: bool) -> Result<Self, Error> {
        let base = match named {
            // One that is not there is a typing error, or a disk that is not mounted.
            Some(base) if !base.is_dir() => {
                return Err(Error::usage(
                    format!("the scratch folder `{}` does not exist", base.display()),
                    "is the disk mounted? Name a folder that exists",
                ));
            }
            Some(base) => base.to_path_buf(),
            None => staging.to_path_buf(),
        };
        let staging = private_staging(&base).map_err(|error| match named {
            None => Error::NoScratch {
                error: Box::new(error),
            },
            Some(_) => error,
        })?;
        Ok(Self {
            staging,
            base,
            keep,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.staging.path()
    }

    /// Where it was left, if it is to be.
    pub(super) fn end(self, target: Target) -> Result<Option<PathBuf>, Error> {
        let from = target.path().to_path_buf();
        drop(target);
        if !self.keep {
            return Ok(None);
        }
        let state = Error::at(&self.base);
        let kept = tempfile::Builder::new()
            .prefix("drill-")
            .tempdir_in(&self.base)
            .map_err(state)?
            .keep();
        std::fs::rename(&from, &kept).map_err(state)?;
        Ok(Some(kept))
    }
}

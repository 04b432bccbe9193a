//! What uploads that were killed left in a local repository: packs under the temporary name of the engine's local
//! backend. Nothing refers to them.

use std::fs;
use std::path::{Path, PathBuf};

/// The unfinished packs of a repository.
pub(crate) fn packs(repository: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let packs = entries(&repository.join("data")).flat_map(|folder| entries(&folder.path()));
    let torn = packs.filter(|file| file.file_name().to_string_lossy().ends_with("-tmp-"));
    torn.filter_map(|file| Some((file.path(), file.metadata().ok()?)))
        .collect()
}

//! What `--version` says: this program, what it was built from, and the two libraries that the data depend on.

use std::sync::LazyLock;

/// Version, commit, engine and SQLite.
pub(super) fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{}\ncommit: {}\nengine: rustic_core {}\nSQLite: {}",
            env!("CARGO_PKG_VERSION"),
            option_env!("RUSTIC_HAPI_COMMIT").unwrap_or("unknown"),
            option_env!("RUSTIC_HAPI_ENGINE").unwrap_or("unknown"),
            hapi_sources::sqlite_version(),
        )
    });
    &TEXT
}

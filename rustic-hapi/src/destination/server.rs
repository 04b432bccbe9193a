//! A server is a place for a repository that is none of this machine's folders.

use std::sync::Arc;

use crate::destination::lock_files::LockStore;
use crate::destination::presence::Presence;
use crate::error::Error;

/// What is asked of a server beside what the engine asks.
pub(super) trait Server: Send + Sync {
    /// Where locks are kept. One that is refreshed is no sign that the work goes on.
    fn locks(&self) -> Arc<dyn LockStore>;

    /// What is there.
    ///
    /// # Errors
    /// Whatever keeps the answer from being certain.
    fn presence(&self) -> Result<Presence, Error>;

    /// The names of the key files.
    fn keys(&self) -> Result<Vec<String>, Error>;

    /// Removes a key file.
    fn remove_key(&self, name: &str) -> Result<(), Error>;
}

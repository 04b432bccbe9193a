//! A secret comes out of the repository as ciphertext, and is opened in memory alone.

use hapi_sources::{DecryptError, Identities, Plaintext};

use crate::policy::manifest::EntryRecord;
use crate::restore::difference::What;
use crate::restore::fetch::{Failure, Fetch};

/// Decrypts a secret in memory, and compares the number of its entries with the manifest.
pub(crate) fn open_secret(
    fetch: &Fetch<'_>,
    entry: &EntryRecord,
    identities: &Identities,
) -> Result<Plaintext, Failure> {
    let ciphertext = fetch.into_memory(entry)?;
    let plaintext = identities
        .decrypt(&ciphertext)
        .map_err(|error| match error {
            DecryptError::NoMatchingKey => Failure::Difference(What::Sealed),
            error => Failure::Difference(format!("it cannot be decrypted: {error}").into()),
        })?;
    match entry.secret_entries {
        Some(entries) if entries != plaintext.entries() => Err(Failure::Difference(
            format!(
                "it has {} entries, the manifest says {entries}",
                plaintext.entries()
            )
            .into(),
        )),
        _ => Ok(plaintext),
    }
}

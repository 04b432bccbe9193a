//! Access is what a destination's server wants to know beyond the location: names, passwords, a
//! certificate authority. It comes from the environment or from the profile's environment file, and
//! it is never printed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

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
    /// What programs that reach the destination for us get into their environment, beyond what is in
    /// ours (`AWS_ACCESS_KEY_ID`, `B2_ACCOUNT_ID`, …).
    pub environment: BTreeMap<String, Zeroizing<String>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("cacert", &self.cacert)
            .field("environment", &self.environment.keys())
            .finish_non_exhaustive()
    }
}

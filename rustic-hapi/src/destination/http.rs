//! The HTTP client that a server of a repository and a notification share, with TLS by ring and the system's
//! certificates.

use reqwest::blocking::{Client, ClientBuilder};

/// A client to be, which says who we are.
pub(crate) fn client() -> ClientBuilder {
    // Refused from the second time on, and where who uses this library has chosen another.
    _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().user_agent(concat!("rustic-hapi/", env!("CARGO_PKG_VERSION")))
}

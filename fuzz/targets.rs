//! What the fuzzer runs, and tests/faults over random input: each takes bytes that anybody may have written
//! and panics only where something of ours is wrong.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a finding is a panic")]

use std::path::{Path, PathBuf};

use rustic_hapi::description::Description;
use rustic_hapi::manifest::Manifest;
use rustic_hapi::{Location, Lookup, Profile};

/// What a location must not show.
const SECRET: &str = "s3cr3t-of-the-location";

/// A profile's text. What is read is read again the same; what is refused is refused in words.
pub fn profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lookup = Lookup {
        home: Some(PathBuf::from("/nonexistent/home")),
        ..Lookup::default()
    };
    let path = Path::new("/nonexistent/hapi.toml");
    match Profile::parse(text, path, &lookup) {
        Ok(profile) => {
            assert!(!profile.series.is_empty());
            assert!(profile.retention.keep_daily >= 14, "below the floor");
            assert!(profile.sources.iter().all(|s| s.source.path.is_absolute()));
            let _ = format!("{profile:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A location, as it is and with a password put between its first `//` and `@`.
pub fn location(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let home = Path::new("/home/hub");
    if let Ok(location) = Location::parse(text, home) {
        let _ = (location.to_string(), format!("{location:?}"));
    }
    // One with a password in it shows it nowhere, whatever else is odd about it.
    let Some((scheme, rest)) = text.split_once("://") else {
        return;
    };
    if !scheme.starts_with("rest:http") || rest.contains('@') {
        return;
    }
    let with = format!("{scheme}://user:{SECRET}@{rest}");
    match Location::parse(&with, home) {
        Ok(location) => {
            let shown = format!("{location} {location:?}");
            assert!(!shown.contains(SECRET), "{shown}");
        }
        Err(error) => assert!(!error.contains(SECRET), "{error}"),
    }
}

/// A manifest's JSON. What is read is written and read again the same.
pub fn manifest(data: &[u8]) {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(data) else {
        return;
    };
    let bytes = manifest.to_bytes();
    let again: Manifest = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(again.to_bytes(), bytes);
    let description = manifest.describe(&bytes);
    let _ = (manifest.is_complete(), manifest.is_damaged());
    let text = serde_json::to_vec(&description).unwrap();
    self::description(&text);
}

/// A description's JSON, out of a snapshot file.
pub fn description(data: &[u8]) {
    let Ok(description) = serde_json::from_slice::<Description>(data) else {
        return;
    };
    let text = serde_json::to_vec(&description).unwrap();
    let again: Description = serde_json::from_slice(&text).unwrap();
    assert_eq!(serde_json::to_vec(&again).unwrap(), text);
}

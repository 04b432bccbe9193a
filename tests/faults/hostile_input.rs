//! What the fuzzer of `just fuzz` runs for as long as one likes, for a moment: profiles, locations,
//! manifests and descriptions that are real ones with a few bytes changed.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use proptest::prelude::*;

use crate::common::Home;

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Bytes put in the place of others.
type Change = (prop::sample::Index, usize, Vec<u8>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let odd = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(vec![
            "\"",
            "\\",
            "]",
            "[[",
            "{",
            "}",
            "-1",
            "1e999",
            "18446744073709551616",
            "null",
            "../",
            "\u{202e}",
            "\n",
            "=",
            "true",
            "\\u0000"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, odd), 0..6)
}

fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, length, with) in changes {
        let at = at.index(bytes.len() + 1);
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, with.iter().copied());
    }
    bytes
}

/// A manifest and a description that a run wrote.
fn real() -> &'static (Vec<u8>, Vec<u8>) {
    static REAL: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    REAL.get_or_init(|| {
        let home = Home::initialised();
        home.snapshot().exits(0);
        let manifest = home.dump("hapi", &home.path().join(".hapi-manifest.json"));
        let snapshots = home.engine().get_all_snapshots().unwrap();
        let description = snapshots[0].description.clone().unwrap();
        (manifest, description.into_bytes())
    })
}

fn shipped(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles");
    fs::read(folder.join(name)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_profile(changes in changes(), name in prop::sample::select(vec!["full.toml", "hapi.toml", "hapi-stock.toml"])) {
        targets::profile(&changed(&shipped(name), &changes));
    }

    #[test]
    fn a_location(
        changes in changes(),
        real in prop::sample::select(vec![
            "rest:http://storage:8000/hapi/", "rest:https://[::1]:8000/", "sftp:hub@nas:/srv/hapi",
            "sftp://hub@nas:2222//srv/hapi", "s3:https://s3.example/bucket/path", "b2:bucket:path",
            "rclone:remote:path", "/mnt/backup/hapi", "~/backup", "local:/mnt", "C:\\backup", "",
        ]),
    ) {
        targets::location(&changed(real.as_bytes(), &changes));
    }

    #[test]
    fn a_manifest(changes in changes()) {
        targets::manifest(&changed(&real().0, &changes));
    }

    #[test]
    fn a_description(changes in changes()) {
        targets::description(&changed(&real().1, &changes));
    }
}

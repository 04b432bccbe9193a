//! Snapshot files that cannot be read as ours are: another program's, another user's, torn. Stock restic
//! says what the first are; nobody's retention waits for them, and a prune keeps what they need.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use rustic_core::repofile::IndexFile;
use serde_json::{Value, json};

use crate::common::{Home, Said};

/// Seals a snapshot file of this plaintext, as another program would; returns its id.
fn put(home: &Home, plain: &str) -> String {
    use aes256ctr_poly1305aes::aead::Aead;
    use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce};
    use sha2::Digest;
    let master = home.engine().key();
    let key = [master.encrypt, master.mac.k, master.mac.r].concat();
    let nonce = [9; 16];
    let sealed = Aes256CtrPoly1305Aes::new(Key::from_slice(&key))
        .encrypt(Nonce::from_slice(&nonce), plain.as_bytes())
        .unwrap();
    let stored = [nonce.as_slice(), &sealed].concat();
    let id = hex::encode(sha2::Sha256::digest(&stored));
    fs::write(home.repository().join("snapshots").join(&id), stored).unwrap();
    id
}

/// A folder that stock restic put there, whose snapshot file is removed again; what it said.
fn restics(home: &Home, bytes: &[u8]) -> Value {
    let folder = home.dir.path().join("theirs");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("letter"), bytes).unwrap();
    home.restic(&["backup", "--host", "theirs", folder.to_str().unwrap()]);
    let listed = home.restic_snapshots();
    let id = listed.iter().find(|s| s["hostname"] == "theirs").unwrap()["id"].clone();
    let id = id.as_str().unwrap();
    let said = home.restic(&["cat", "snapshot", id]).json();
    fs::remove_file(home.repository().join("snapshots").join(id)).unwrap();
    said
}

#[test]
fn another_programs_snapshot_keeps_its_data_and_stops_nobodys_retention() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    // What is changed, and whether stock restic lists the result.
    let forms = [
        (json!({"tags": null}), true),
        (json!({"paths": null}), true),
        (
            json!({"hostname": null, "username": null, "uid": null, "gid": null}),
            true,
        ),
        (
            json!({"tags": null, "paths": null, "excludes": null, "parent": null}),
            true,
        ),
        (
            json!({"label": null, "description": null, "program_version": null}),
            true,
        ),
        (json!({"delete": "when the moon is full"}), true),
        (json!({"summary": {"files_new": "many"}}), true),
        (json!({"label": 7, "parents": "none"}), true),
        (json!({"tags": ["a", null]}), true),
        (json!({"tags": "a,b"}), false),
        (json!({"uid": -1}), false),
        (json!({"time": "yesterday"}), false),
        (json!({"paths": {"a": 1}}), false),
    ];
    // All of restic's own runs come first: they give up over some of these forms.
    let written = forms.map(|(change, listed)| {
        let bytes = format!("a letter of {change}").repeat(100).into_bytes();
        (restics(&home, &bytes), bytes, change, listed)
    });
    let theirs = written.map(|(mut said, bytes, change, listed)| {
        for (name, value) in change.as_object().unwrap() {
            said[name] = value.clone();
        }
        (
            put(&home, &said.to_string()),
            bytes,
            said["tree"].clone(),
            listed,
            change,
        )
    });
    home.change();
    home.snapshot().exits(0);
    for args in [
        &["forget"][..],
        &["forget", "--prune"],
        &["snapshots", "--all-hosts"],
        &["status"],
    ] {
        let said = home.hapi_command(args).exits(0);
        assert!(!said.stderr.contains("unknown"), "{said:?}");
    }
    // In two phases: what is marked now would be gone tomorrow.
    let engine = home.engine();
    let kept: Vec<String> = engine
        .stream_files::<IndexFile>()
        .unwrap()
        .flat_map(|file| file.unwrap().1.packs)
        .flat_map(|pack| pack.blobs)
        .map(|blob| blob.id.to_hex().to_string())
        .collect();
    for (id, bytes, tree, listed, change) in &theirs {
        assert!(home.repository().join("snapshots").join(id).exists());
        if *listed {
            let path = home.dir.path().join("theirs/letter");
            let came = home.restic_command(&["dump", id, path.to_str().unwrap()]);
            let came = { came }.output().unwrap();
            assert_eq!(came.stdout, *bytes, "{change}: {came:?}");
        }
        let tree = tree.as_str().unwrap();
        assert!(kept.iter().any(|blob| blob == tree), "{change}");
    }
}

#[test]
fn a_plaintext_that_is_no_snapshot_stops_no_retention() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    for plain in ["{}", "[]", "a note", "{\"time\": 5}", "null"] {
        put(&home, plain);
    }
    home.change();
    home.snapshot().exits(0);
    home.hapi_command(&["forget"]).exits(0);
    // Nobody can tell what it needs, stock restic no better.
    let said = home.hapi_command(&["forget", "--prune"]).exits(1);
    assert!(said.stderr.contains("prune"), "{said:?}");
}

#[test]
fn what_may_be_a_later_versions_makes_retention_wait() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let id = home.ids("hapi").remove(0);
    let mut said = home.restic(&["cat", "snapshot", &id]).json();
    said["tags"] = json!({"hapi": true});
    let id = put(&home, &said.to_string());
    home.change();
    let said = home.hapi_command(&["snapshot"]).exits(3);
    for fact in [&id[..8], "later version of rustic-hapi", "hint: update"] {
        assert!(said.stderr.contains(fact), "{fact}: {said:?}");
    }
    home.hapi_command(&["forget"]).exits(1);
    assert!(home.repository().join("snapshots").join(&id).exists());
}

#[test]
fn only_what_is_empty_or_does_not_decrypt_is_torn() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let sound = home
        .repository()
        .join("snapshots")
        .join(&home.ids("hapi")[0]);
    let bytes = fs::read(&sound).unwrap();
    for (torn, how) in [
        (&bytes[..0], "it is empty"),
        (&bytes[..10], "it does not decrypt"),
        (&bytes[..bytes.len() / 2], "it does not decrypt"),
        (&[0; 4096], "it does not decrypt"),
    ] {
        let file = home.repository().join("snapshots").join("ab".repeat(32));
        fs::write(&file, torn).unwrap();
        home.change();
        let said = home.hapi_command(&["snapshot"]).exits(3);
        for fact in [
            "abababab is damaged",
            how,
            "hint: on some destinations an interrupted upload",
        ] {
            assert!(said.stderr.contains(fact), "{fact}: {said:?}");
        }
        home.hapi_command(&["forget"]).exits(1);
        fs::remove_file(&file).unwrap();
    }
    home.hapi_command(&["forget"]).exits(0);
}

const USER: u32 = 54_321;

fn as_user(home: &Home, args: &[&str]) -> Said {
    let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
    home.through("setpriv", &[&user, &group, "--clear-groups"], args)
        .output()
        .unwrap()
        .into()
}

fn first(folder: PathBuf) -> PathBuf {
    let said = crate::common::run(
        "find",
        &[folder.as_os_str(), "-type".as_ref(), "f".as_ref()],
    );
    said.stdout.lines().min().unwrap().into()
}

#[test]
fn what_another_user_left_unreadable_is_not_called_damaged() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let all = home.dir.path();
    fs::set_permissions(all, fs::Permissions::from_mode(0o755)).unwrap();
    crate::common::run(
        "chown",
        &["-R".as_ref(), "54321:54321".as_ref(), all.as_os_str()],
    );
    as_user(&home, &["snapshot", "--no-forget"]).exits(0);
    let parts =
        ["snapshots", "index", "keys", "data"].map(|part| first(home.repository().join(part)));
    let parts = parts
        .into_iter()
        .chain(["config", "snapshots"].map(|part| home.repository().join(part)));
    for part in parts {
        let mode = fs::metadata(&part).unwrap().permissions();
        chown(&part, Some(0), Some(0)).unwrap();
        fs::set_permissions(&part, fs::Permissions::from_mode(0o600)).unwrap();
        let count = || {
            fs::read_dir(home.repository().join("snapshots"))
                .unwrap()
                .count()
        };
        let mut before = 0;
        let is_snapshot = part.parent().unwrap().ends_with("snapshots");
        for args in [
            &["snapshot", "--no-forget"][..],
            &["forget"],
            &["check", "--read-data"],
            &["status"],
            &["doctor"],
        ] {
            if args == ["forget"] {
                before = count();
            }
            let said = as_user(&home, args);
            let text = format!("{}{}", said.stdout, said.stderr);
            let case = format!("{} {args:?}: {text}", part.display());
            for lie in [
                "is damaged",
                "interrupted upload",
                "put the file back",
                "another copy",
                "not its hash",
            ] {
                assert!(!text.contains(lie), "{lie}: {case}");
            }
            if args == ["snapshot", "--no-forget"]
                || args == ["check", "--read-data"]
                || is_snapshot && args == ["forget"]
            {
                // A pack may be one that this run does not read.
                if said.code != 0 {
                    assert!(text.contains("Permission denied"), "{case}");
                    assert!(text.contains("this runs as #54321"), "{case}");
                }
            }
            if is_snapshot && args == ["forget"] {
                assert_eq!((said.code, count()), (1, before), "{case}");
            }
        }
        chown(&part, Some(USER), Some(USER)).unwrap();
        fs::set_permissions(&part, mode).unwrap();
    }
    as_user(&home, &["snapshot"]).exits(0);
    as_user(&home, &["check", "--read-data"]).exits(0);
}

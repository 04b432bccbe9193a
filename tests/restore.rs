//! Restores through the real binary: everything comes back as it was, nothing goes where it should
//! not, and an end at any moment costs nothing but time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::common::{CANARIES, Home, Said, Tmpfs, files_below, files_with, run, sqlite3};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn below(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap())
}

fn sha256(path: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(path).unwrap()))
}

/// Everything below a folder, with what it holds and how it looks.
fn state_of(folder: &Path) -> BTreeMap<PathBuf, (String, u32, i64)> {
    let of = |path: &Path| {
        let stat = fs::symlink_metadata(path).unwrap();
        let content = match stat.is_symlink() {
            true => format!("{:?}", fs::read_link(path).unwrap()),
            false => sha256(path),
        };
        (content, stat.mode(), stat.mtime())
    };
    files_below(folder)
        .into_iter()
        .map(|(path, _)| (path.clone(), of(&path)))
        .collect()
}

/// The hashes that the manifests name, by path.
fn manifests(home: &Home) -> BTreeMap<PathBuf, String> {
    ["hapi", "hapi-weekly"]
        .iter()
        .flat_map(|series| home.manifest(series)["sources"].as_array().unwrap().clone())
        .flat_map(|source| source["entries"].as_array().unwrap().clone())
        .filter_map(|entry| {
            let hash = entry["sha256"].as_str()?.to_owned();
            Some((PathBuf::from(entry["path"].as_str()?), hash))
        })
        .collect()
}

#[test]
fn everything_comes_back_as_it_was() {
    let home = Home::initialised();
    let plans = home.path().join("coding/hapi/docs/plans");
    let attachments = home.hapi("scratchlist-attachments");
    symlink("nowhere/else", attachments.join("a link")).unwrap();
    fs::set_permissions(&attachments, fs::Permissions::from_mode(0o2750)).unwrap();
    let attachment = attachments.join("a file.bin");
    fs::set_permissions(&attachment, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&attachment, Some(1234), Some(4321)).unwrap();
    home.snapshot().exits(0);

    let target = home.dir.path().join("back");
    let said = home.restore(&target, &[]).exits(0);
    for part in [
        "hapi.db",
        "each compared with its manifest",
        "still encrypted (.age)",
    ] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    let weekly = home.path().join("voice-test-output");
    for folder in [&attachments, &weekly, &plans] {
        for (path, (content, mode, mtime)) in state_of(&below(&target, folder)) {
            let live = Path::new("/").join(path.strip_prefix(&target).unwrap());
            let was = fs::symlink_metadata(&live).unwrap();
            let link = was.is_symlink();
            let (expected, looks) = match link {
                true => (format!("{:?}", fs::read_link(&live).unwrap()), 0),
                false => (sha256(&live), was.mtime()),
            };
            assert_eq!((content, mode), (expected, was.mode()), "{path:?}");
            assert!(link || mtime == looks, "{path:?}");
        }
    }
    assert!(below(&target, &attachments.join("a link")).is_symlink());
    assert!(below(&target, &weekly.join("empty")).is_dir());
    let stat = fs::metadata(below(&target, &attachment)).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid(), stat.mode() & 0o7777),
        (1234, 4321, 0o640)
    );
    let folder = (
        fs::metadata(&attachments).unwrap(),
        fs::metadata(below(&target, &attachments)).unwrap(),
    );
    assert_eq!(
        (folder.0.mode(), folder.0.mtime()),
        (folder.1.mode(), folder.1.mtime())
    );
    let database = below(&target, &home.database());
    assert_eq!(sqlite3(&database, "SELECT count(*) FROM sessions"), "78");
    assert_eq!(sqlite3(&database, "PRAGMA integrity_check"), "ok");
    for (path, hash) in manifests(&home) {
        assert_eq!(sha256(&below(&target, &path)), hash, "{path:?}");
    }
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o700);

    // Secrets are as they were stored, and open with age.
    let secret = below(&target, &home.hapi("hub.env.age"));
    let identity = home.identity();
    let plain = Command::new("age")
        .arg("-d")
        .arg("-i")
        .arg(&identity)
        .arg(&secret)
        .output()
        .unwrap();
    assert_eq!(plain.stdout, fs::read(home.hapi("hub.env")).unwrap());
    assert_eq!(files_with(&target, CANARIES[0]), Vec::<PathBuf>::new());

    // A second time: all of it is there already.
    let before = state_of(&target);
    let report = home.restore(&target, &["--json"]).exits(0).json();
    for source in report["sources"].as_array().unwrap() {
        let files = source["files"].as_array().unwrap().len();
        assert_eq!(source["already"], files, "{source:#}");
    }
    assert_eq!(state_of(&target), before);

    // Opened, its owner's alone.
    let target = home.dir.path().join("opened");
    let with = [
        "--identity",
        identity.to_str().unwrap(),
        "--source",
        "hub.env",
        "--source",
        "settings.json",
    ];
    let said = home.restore(&target, &with).exits(0);
    assert!(said.stdout.contains("decrypted"), "{}", said.stdout);
    let plain = below(&target, &home.hapi("hub.env"));
    assert_eq!(
        fs::read(&plain).unwrap(),
        fs::read(home.hapi("hub.env")).unwrap()
    );
    assert_eq!(fs::metadata(&plain).unwrap().mode() & 0o777, 0o600);
    assert_eq!(files_below(&target).len(), 2);
    home.restore(&target, &with).exits(0);
    let said = home.restore(&target, &["--source", "hapi.bd"]).exits(2);
    assert!(
        said.stderr.contains("no source `hapi.bd`") && said.stderr.contains("hapi.db"),
        "{}",
        said.stderr
    );
}

#[test]
fn what_is_in_the_way_stays_and_nothing_is_written_beside_it() {
    let home = Home::initialised();
    let attachments = home.hapi("scratchlist-attachments");
    symlink("one", attachments.join("link")).unwrap();
    home.snapshot().exits(0);
    let identity = home.identity();
    let with = ["--identity", identity.to_str().unwrap()];
    let target = home.dir.path().join("target");
    let refused = |args: &[&str], parts: &[&str]| {
        let before = state_of(&target);
        let said = home.restore(&target, args).exits(2);
        for part in parts {
            assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
        }
        assert_eq!(state_of(&target), before);
    };
    let put = |path: &Path, text: &str| {
        let path = below(&target, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let status = home.hapi("driver-status.json");
    put(&status, "mine\n");
    refused(
        &[],
        &[
            "1 file is in the way",
            "driver-status.json",
            "hint: nothing was written",
            "--overwrite",
        ],
    );
    fs::remove_file(below(&target, &status)).unwrap();

    // The plaintext of a secret, known only once it is opened.
    let secret = home.hapi("hub.env");
    put(&secret, "KEY=mine\n");
    refused(&with, &["hub.env", "nothing was written"]);
    fs::remove_file(below(&target, &secret)).unwrap();

    let link = below(&target, &attachments.join("link"));
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink("two", &link).unwrap();
    refused(&[], &["link", "nothing was written"]);

    put(&status, "mine\n");
    put(&secret, "KEY=mine\n");
    home.restore(&target, &[&with[..], &["--overwrite"]].concat())
        .exits(0);
    assert_eq!(
        fs::read(below(&target, &status)).unwrap(),
        fs::read(&status).unwrap()
    );
    assert_eq!(
        fs::read(below(&target, &secret)).unwrap(),
        fs::read(&secret).unwrap()
    );
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("one"));

    // A WAL would bring back rows that are not of the snapshot, whether the database is there or not.
    let wal = home.hapi("hapi.db-wal");
    put(&wal, "stale");
    refused(&[], &["hapi.db-wal", "would mix the two", "hint:"]);
    fs::remove_file(below(&target, &home.database())).unwrap();
    refused(&[], &["hapi.db-wal", "would mix the two"]);
    refused(&["--overwrite"], &["hapi.db-wal"]);
    home.restore(&target, &["--source", "driver-status"])
        .exits(0);

    // Somebody else's folder with a name not unlike ours is left alone.
    let target = home.dir.path().join("other");
    fs::create_dir_all(target.join("run-notes")).unwrap();
    fs::write(target.join("run-notes/file"), "mine").unwrap();
    let outside = home.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let folder = below(&target, &home.path());
    fs::create_dir_all(&folder).unwrap();
    symlink(&outside, folder.join(".hapi")).unwrap();
    let said = home.restore(&target, &[]).exits(2);
    assert!(
        said.stderr.contains("through a symbolic link") && said.stderr.contains("hint:"),
        "{}",
        said.stderr
    );
    assert_eq!(files_below(&outside), []);
    assert!(target.join("run-notes/file").exists());

    for root in ["/", "/tmp/.."] {
        let said = home.restore(Path::new(root), &["--overwrite"]).exits(2);
        assert!(
            said.stderr.contains("refusing to restore into `/`"),
            "{}",
            said.stderr
        );
    }
    let said = home.hapi_command(&["restore"]).exits(2);
    assert!(said.stderr.contains("--target DIR"), "{}", said.stderr);
}

#[test]
fn killed_at_any_moment_it_leaves_whole_files_and_finishes_later() {
    let home = Home::initialised();
    let many = home.hapi("scratchlist-attachments");
    for n in 0..400 {
        fs::write(many.join(format!("{n}.bin")), vec![n as u8; 3000 + n]).unwrap();
    }
    home.snapshot().exits(0);
    let expected = manifests(&home);
    let target = home.dir.path().join("target");
    let whole = |complete: bool| {
        let mut seen = 0;
        for (path, _) in files_below(&target) {
            let name = Path::new("/").join(path.strip_prefix(&target).unwrap());
            if name
                .components()
                .nth(1)
                .is_some_and(|c| c.as_os_str().to_string_lossy().starts_with("run-"))
            {
                assert!(!complete, "{path:?} was left");
                continue;
            }
            assert_eq!(Some(&sha256(&path)), expected.get(&name), "{path:?}");
            seen += 1;
        }
        assert!(
            !complete || seen == expected.len(),
            "{seen} of {}",
            expected.len()
        );
    };
    let began = std::time::Instant::now();
    home.restore(&home.dir.path().join("measured"), &[])
        .exits(0);
    let whole_run = began.elapsed();
    for n in 1..=10u32 {
        if n % 4 == 0 {
            _ = fs::remove_dir_all(&target);
        }
        let mut restore = home.command();
        restore.args(["restore", "--target"]).arg(&target);
        let mut child = restore
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Later and later.
        thread::sleep(whole_run * (9 * n + 5) / 100);
        _ = child.kill();
        child.wait().unwrap();
        whole(false);
    }
    home.restore(&target, &[]).exits(0);
    whole(true);
}

#[test]
fn a_full_file_system_has_a_remedy_and_room_finishes_it() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let target = home.dir.path().join("disk");
    let disk = Tmpfs::mount(target.clone(), "size=200k,mode=700");
    fs::write(target.join("full"), vec![1; 200 << 10]).unwrap();
    let said = home.restore(&target, &[]).exits(1);
    assert!(
        said.stderr.contains("bytes free") && said.stderr.contains("hint: make room"),
        "{}",
        said.stderr
    );
    assert_eq!(files_below(&target).len(), 1);
    disk.remount("size=64m");
    home.restore(&target, &[]).exits(0);
    assert_eq!(
        sqlite3(
            &below(&target, &home.database()),
            "SELECT count(*) FROM messages"
        ),
        "300"
    );
}

#[test]
fn a_snapshot_that_shrank_is_told_with_the_sound_one_before_it() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let sound = home.ids("hapi").remove(0);
    sqlite3(
        &home.database(),
        "PRAGMA foreign_keys = OFF; DELETE FROM sessions; DELETE FROM messages",
    );
    home.snapshot();
    assert!(
        home.restic_snapshots()
            .iter()
            .any(|s| s["tags"].to_string().contains("shrunk"))
    );
    let target = home.dir.path().join("target");
    let said = home.restore(&target, &["--dry-run"]).exits(0);
    let told = format!("from the last good one, {}", &sound[..8]);
    assert!(
        said.stderr.contains("far less") && said.stderr.contains(&told),
        "{}",
        said.stderr
    );
    assert!(said.stdout.contains("would restore"), "{}", said.stdout);
    assert!(!target.exists());
    home.restore(&target, &[&sound[..8], "--source", "hapi.db"])
        .exits(0);
    assert_eq!(
        sqlite3(
            &below(&target, &home.database()),
            "SELECT count(*) FROM sessions"
        ),
        "78"
    );
}

/// A snapshot by somebody who has the password: a tree of restic's, a manifest of their own, our
/// user name.
fn forged(home: &Home, folder: &Path, entries: Value) {
    let host = home.restic_snapshots()[0]["hostname"]
        .as_str()
        .unwrap()
        .to_owned();
    let manifest = json!({
        "version": 1, "series": "hapi", "host": host, "home": folder,
        "sources": [{
            "name": "plans", "kind": "dir", "path": folder, "sensitivity": "low",
            "outcome": "complete", "entries": entries,
        }],
    });
    fs::write(folder.join(".hapi-manifest.json"), manifest.to_string()).unwrap();
    home.restic(&[
        "backup",
        "-q",
        "--host",
        &host,
        "--tag",
        "hapi",
        folder.to_str().unwrap(),
    ]);
    home.forge(|snapshots| {
        for snapshot in snapshots {
            snapshot.username = "rustic-hapi".into();
        }
    });
}

#[test]
fn a_hostile_repository_writes_nothing_outside_of_the_target() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let dir = home.dir.path();
    let hostile = dir.join("hostile");
    let outside = dir.join("outside");
    for folder in [&hostile, &outside] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(hostile.join("good"), "good\n").unwrap();
    fs::write(hostile.join("evil"), "evil\n").unwrap();
    fs::create_dir(hostile.join("deep")).unwrap();
    fs::write(hostile.join("deep/evil"), "evil\n").unwrap();
    symlink(&outside, hostile.join("link")).unwrap();
    let at = |path: &str| hostile.join(path).to_str().unwrap().to_owned();
    let file = |path: &str, name: &str| {
        let from = hostile.join(name);
        let size = fs::metadata(&from).unwrap().len();
        json!({"path": path, "type": "file", "size": size, "sha256": sha256(&from)})
    };
    let evil = |path: &str| file(path, "evil");
    let mut huge = evil(&at("evil"));
    huge["size"] = json!(u64::MAX);
    let mut deep = evil(&at("deep/evil"));
    deep["size"] = json!(u64::MAX);
    let escapes = outside.join("evil").to_str().unwrap().to_owned();
    let entries = json!([
        file(&at("good"), "good"),
        evil(&at("../outside/evil")),
        evil(&format!("/../../..{escapes}")),
        evil("../outside/evil"),
        evil("/"),
        evil(""),
        evil("/.."),
        evil(&escapes),
        {"path": {"hex": "2f6100"}, "type": "file", "size": 5, "sha256": "00"},
        {"path": at("link"), "type": "symlink"},
        evil(&at("link/evil")),
        huge,
        deep,
    ]);
    forged(&home, &hostile, entries);

    let target = dir.join("target");
    let latest = home.ids("hapi").pop().unwrap();
    let said = home.restore(&target, &[&latest[..8]]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("not restored"), "{}", said.stderr);
    assert_eq!(files_below(&outside), []);
    let there: Vec<_> = files_below(&target)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        there,
        [
            below(&target, &hostile.join("good")),
            below(&target, &hostile.join("link"))
        ]
    );
    // Again, with the link there.
    home.restore(&target, &[&latest[..8], "--overwrite"])
        .exits(1);
    assert_eq!(files_below(&outside), []);
    assert!(!dir.join("evil").exists());

    let said = home.drill(&[&latest[..8]]).exits(21);
    assert!(
        said.stderr.contains("not a plain absolute path"),
        "{}",
        said.stderr
    );
    assert_eq!(files_below(&outside), []);
}

#[test]
fn a_signal_ends_it_without_a_trace() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let began = std::time::Instant::now();
    home.restore(&home.dir.path().join("measured"), &[])
        .exits(0);
    let whole_run = began.elapsed();
    let target = home.dir.path().join("target");
    let mut restore = home.command();
    restore.args(["restore", "--target"]).arg(&target);
    let child = restore
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(whole_run / 2);
    run("kill", &["-TERM".as_ref(), child.id().to_string().as_ref()]);
    let said = Said::from(child.wait_with_output().unwrap());
    // One that was done by then is complete.
    assert!([0, 143].contains(&said.code), "{said:?}");
    if let Ok(entries) = fs::read_dir(&target) {
        for entry in entries.flatten() {
            assert!(!entry.file_name().to_string_lossy().starts_with("run-"));
        }
    }
    home.restore(&target, &[]).exits(0);
}

#[test]
fn names_that_are_not_text_come_back_and_are_told_in_hexadecimal() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::initialised();
    let odd = std::ffi::OsStr::from_bytes(b"a\xffb\n\x1b[31m");
    for folder in [
        home.hapi("scratchlist-attachments"),
        home.path().join(".hapi"),
    ] {
        fs::write(folder.join(odd), "odd").unwrap();
    }
    home.snapshot().exits(0);
    let target = home.dir.path().join(odd);
    let key = home.identity();
    let args = ["--identity", key.to_str().unwrap()];
    home.drill(&args).exits(0);
    let mut restore = home.command();
    restore.args(["restore", "--json", "--target"]);
    restore.arg(&target).args(args);
    let said = Said::from(restore.output().unwrap()).exits(0);
    assert!(!said.stderr.contains('\u{1b}'), "{said:?}");
    let hex = |path: &Path| hex::encode(path.as_os_str().as_bytes());
    assert_eq!(said.json()["target"]["hex"], hex(&target).as_str());
    let back = |path: &Path| target.join(path.strip_prefix("/").unwrap()).join(odd);
    for folder in [
        home.hapi("scratchlist-attachments"),
        home.path().join(".hapi"),
    ] {
        assert_eq!(fs::read_to_string(back(&folder)).unwrap(), "odd");
        let path = hex(&back(&folder));
        assert!(said.stdout.contains(&path), "{said:?}");
    }
}

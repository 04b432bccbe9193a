//! `check`: what a restic check finds, and what it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::{Home, Said};

fn with_three_days() -> Home {
    let home = Home::initialised();
    for day in ["2026-03-01", "2026-03-02", "2026-03-03"] {
        home.at(&format!("{day}T06:00:00Z"), &["snapshot"]).exits(0);
    }
    home
}

fn check(home: &Home, args: &[&str]) -> Said {
    let mut all = vec!["check", "--json"];
    all.extend(args);
    home.at("2026-03-03T07:00:00Z", &all)
}

/// The facts found, in one text.
fn facts(said: &Said) -> String {
    let findings = said.json()["findings"].as_array().unwrap().clone();
    let facts: Vec<_> = findings
        .iter()
        .map(|f| f["fact"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        findings
            .iter()
            .all(|f| !f["remedy"].as_str().unwrap().is_empty())
    );
    facts.join("\n")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_sound_repository_has_no_findings_and_the_check_is_on_record() {
    let home = with_three_days();
    let said = check(&home, &[]).exits(0).json();
    assert_eq!(said["snapshots"], 4, "three of the main series, one weekly");
    assert!(
        said["read"]["one-of"]
            .as_u64()
            .is_some_and(|n| (1..=5).contains(&n))
    );
    let said = check(&home, &["--read-data"]).exits(0).json();
    assert_eq!(said["read"], "all");
    let record = fs::read_to_string(home.state().join("check.json")).unwrap();
    assert!(
        record.contains("\"all\"") && record.contains("\"findings\":0"),
        "{record}"
    );
    // Another week reads another share.
    let share = |time: &str| home.at(time, &["check", "--json"]).json()["read"].clone();
    assert_ne!(share("2026-03-03T07:00:00Z"), share("2026-03-10T07:00:00Z"));
    // Without a profile it is the repository that is checked.
    let bare = home
        .command()
        .env("HOME", home.dir.path().join("nobody"))
        .args(["--repository", home.repository().to_str().unwrap()])
        .args(["--password-file", home.password().to_str().unwrap()])
        .args(["check", "--read-data"])
        .output()
        .unwrap();
    Said::from(bare).exits(0);
}

#[test]
fn every_damage_is_found() {
    let home = with_three_days();
    let repository = home.repository();
    let untouched = home.dir.path().join("untouched");
    crate::common::run(
        "cp",
        &["-a".as_ref(), repository.as_os_str(), untouched.as_os_str()],
    );
    let anew = || {
        fs::remove_dir_all(&repository).unwrap();
        crate::common::run(
            "cp",
            &["-a".as_ref(), untouched.as_os_str(), repository.as_os_str()],
        );
    };
    for pack in files(&untouched.join("data")) {
        let pack = repository.join(pack.strip_prefix(&untouched).unwrap());
        flip(&pack);
        let said = check(&home, &["--read-data"]).exits(1);
        assert!(!said.stderr.contains("panicked"), "{said:?}");
        assert!(facts(&said).to_lowercase().contains("pack"), "{said:?}");
        anew();
        let half = fs::metadata(&pack).unwrap().len() / 2;
        fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
        fs::File::options()
            .write(true)
            .open(&pack)
            .unwrap()
            .set_len(half)
            .unwrap();
        // Structure is always looked at, also when nothing is read of this pack.
        assert!(facts(&check(&home, &[]).exits(1)).contains("size"));
        anew();
        fs::remove_file(&pack).unwrap();
        let said = check(&home, &[]).exits(1);
        assert!(!said.stderr.contains("internal error"), "{said:?}");
        assert!(facts(&said).contains("not present"), "{said:?}");
        anew();
    }
    for (folder, code, word) in [
        ("index", 1, "index file"),
        ("snapshots", 1, "snapshot file"),
        ("keys", 1, "damaged key file"),
    ] {
        let file = files(&repository.join(folder)).remove(0);
        flip(&file);
        let said = check(&home, &[]).exits(code);
        assert!(format!("{said:?}").contains(word), "{folder}: {said:?}");
        assert!(said.stderr.contains("hint: "), "{folder}: {said:?}");
        anew();
        fs::remove_file(&file).unwrap();
        let said = check(&home, &[]);
        match folder {
            // Who removes a snapshot file forgets a snapshot: nothing is damaged by that.
            "snapshots" => _ = said,
            "keys" => assert!(format!("{said:?}").contains("and no key"), "{said:?}"),
            _ => {
                assert!(!said.stderr.contains("internal error"), "{said:?}");
                said.exits(1);
            }
        }
        anew();
    }
    check(&home, &["--read-data"]).exits(0);
}

#[test]
fn what_should_be_there_and_is_not() {
    let home = Home::initialised();
    // No snapshot of any series: nothing odd on the first day.
    let said = home.hapi_command(&["check"]).exits(0);
    assert!(said.stderr.contains("has no snapshot yet"), "{said:?}");
    let said = home
        .at("2036-03-03T07:00:00Z", &["check", "--json"])
        .exits(1);
    assert!(
        facts(&said).contains("the series `hapi` has no snapshot"),
        "{said:?}"
    );
    assert!(
        facts(&said).contains("the series `hapi-weekly` has no snapshot"),
        "{said:?}"
    );

    fs::remove_file(home.state().join("check.json")).unwrap();
    // Days that somebody else removed.
    for day in 1..=20 {
        home.at(
            &format!("2026-03-{day:02}T06:00:00Z"),
            &["snapshot", "--no-forget"],
        )
        .exits(0);
    }
    let late = |args: &[&str]| home.at("2026-03-20T07:00:00Z", args);
    late(&["check"]).exits(0);
    let ids: Vec<String> = home
        .restic_snapshots()
        .iter()
        .filter(|s| s["tags"][0] == "hapi")
        .skip(3)
        .take(10)
        .map(|s| s["id"].as_str().unwrap().to_owned())
        .collect();
    let mut forget = vec!["forget"];
    forget.extend(ids.iter().map(String::as_str));
    home.restic(&forget);
    let said = late(&["check", "--json"]).exits(1);
    assert!(facts(&said).contains("10 distinct days only"), "{said:?}");

    // Snapshots under our tag of another host are strays, unless they are expected.
    let other = home.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    home.restic(&[
        "backup",
        "--host",
        "elsewhere",
        "--tag",
        "hapi",
        other.to_str().unwrap(),
    ]);
    let said = late(&["check", "--json"]).exits(1);
    assert!(facts(&said).contains("elsewhere"), "{said:?}");
    home.edit_profile(|text| {
        text.replace(
            "[repository]\n",
            "[repository]\nother-hosts = [\"elsewhere\"]\n",
        )
    });
    let said = late(&["check", "--json"]).exits(1);
    assert!(!facts(&said).contains("elsewhere"), "{said:?}");
}

#[test]
fn a_damaged_key_does_not_keep_a_sound_one_from_opening() {
    let home = Home::initialised();
    home.at("2026-03-01T06:00:00Z", &["snapshot"]).exits(0);
    let ordinary = files(&home.repository().join("keys")).remove(0);
    let kept = home.dir.path().join("recovery-key");
    home.hapi_command(&[
        "recovery-kit",
        "--new-key",
        "--key-file",
        kept.to_str().unwrap(),
    ])
    .exits(0);
    for damage in [flip as fn(&Path), |file| fs::write(file, b"{").unwrap()] {
        let sound = fs::read(&ordinary).unwrap();
        fs::set_permissions(&ordinary, fs::Permissions::from_mode(0o600)).unwrap();
        damage(&ordinary);
        let said = home.hapi_command(&["drill"]).exits(22);
        assert!(said.stderr.contains("damaged key file"), "{said:?}");
        home.hapi_command(&["drill", "--password-file", kept.to_str().unwrap()])
            .exits(0);
        fs::write(&ordinary, sound).unwrap();
    }
}

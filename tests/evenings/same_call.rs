//! What the program advises acts on what the call was about: the same profile, home, repository and password.

use std::fs;
use std::path::{Path, PathBuf};

use crate::evenings::{Evening, suggested};

/// How many keys a repository has.
fn keys(repository: &Path) -> usize {
    fs::read_dir(repository.join("keys")).unwrap().count()
}

/// A second profile of the same hub, `tw`, with a repository of its own.
fn second(evening: &Evening) -> PathBuf {
    let place = evening.home.dir.path().join("second");
    evening
        .says(&[
            "--profile",
            "tw",
            "init",
            "--allow-same-disk",
            "--repository",
            place.to_str().unwrap(),
            "--recipient",
            &evening.home.recipient,
        ])
        .exits(0);
    place
}

#[test]
fn advice_for_one_profile_does_not_act_on_another() {
    let evening = Evening::of_root();
    let home = &evening.home;
    let place = second(&evening);
    let said = evening.says(&["--profile", "tw", "doctor"]);
    let advice: Vec<_> = suggested(&said)
        .into_iter()
        .filter(|command| command.contains("--new-key"))
        .collect();
    assert_eq!(advice.len(), 1, "{said:?}");
    let file = home.dir.path().join("new key");
    let file = format!("'{}'", file.display());
    let made = evening.follows(&advice[0], &[("FILE", &file)]).exits(0);
    assert!(made.stdout.contains(place.to_str().unwrap()), "{made:?}");
    assert_eq!((keys(&place), keys(&home.repository())), (2, 1));

    // One that is not needed any more is removed by restic, there as well.
    let another = home.dir.path().join("another");
    let made = evening
        .says(&[
            "--profile",
            "tw",
            "recovery-kit",
            "--new-key",
            "--key-file",
            another.to_str().unwrap(),
        ])
        .exits(0);
    for said in evening.followed(&made, &[]) {
        said.exits(0);
    }
    assert_eq!((keys(&place), keys(&home.repository())), (2, 1));
}

#[test]
fn a_call_without_a_profile_gets_advice_without_one() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    fs::remove_file(home.profile()).unwrap();
    let call = [
        "--repository",
        home.repository().to_str().unwrap(),
        "--password-file",
        home.password().to_str().unwrap(),
    ]
    .map(str::to_owned);
    let with = |more: &[&str]| {
        let all: Vec<&str> = call
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        evening.says(&all)
    };
    let said = with(&["drill", "ffffffff"]).exits(22);
    let listed = evening.followed(&said, &[]).remove(0).exits(0);
    assert!(listed.stdout.contains("hapi"), "{listed:?}");
    // For restic, too.
    let shown = with(&["env"]).exits(0);
    assert!(shown.stdout.contains("RESTIC_REPOSITORY="), "{shown:?}");
}

#[test]
fn the_same_call_again_keeps_its_arguments() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    let profile = fs::read_to_string(home.profile()).unwrap();
    let database = home.database();
    // The hub's home was moved, and its profile is lost.
    fs::rename(home.path().join(".hapi"), home.path().join("moved")).unwrap();
    fs::remove_file(home.profile()).unwrap();
    let said = evening
        .says(&[
            "init",
            "--allow-same-disk",
            "--hapi-home",
            home.path().join("moved").to_str().unwrap(),
            "--repository",
            home.repository().to_str().unwrap(),
            "--recipient",
            &home.recipient,
        ])
        .exits(2);
    let advice = suggested(&said);
    assert!(advice[0].contains("--adopt"), "{said:?}");
    evening.follows(&advice[0], &[]).exits(0);
    let written = fs::read_to_string(home.profile()).unwrap();
    let line_of = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.map(str::to_owned)
    };
    assert!(written.contains(&home.recipient), "{written}");
    assert_eq!(line_of(&written, "id = "), line_of(&profile, "id = "));
    assert!(!database.exists());
    home.snapshot().exits(0);
}

#[test]
fn a_password_in_a_location_is_not_said_again() {
    let evening = Evening::of_root();
    let said = evening.says(&[
        "--repository",
        "rest:http://user:canary@127.0.0.1:1/x",
        "snapshots",
    ]);
    assert_ne!(said.code, 0);
    assert!(!format!("{said:?}").contains("canary"), "{said:?}");
    let said = evening.says(&[
        "init",
        "--recipient",
        "nonsense",
        "--repository=rest:http://user:canary@127.0.0.1:1/x",
    ]);
    assert_ne!(said.code, 0);
    assert!(!format!("{said:?}").contains("canary"), "{said:?}");
}

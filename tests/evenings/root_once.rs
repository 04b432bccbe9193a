//! Root once, the user next: what root left must not read as damage, and root leaves nothing any more.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::common::{BindFs, Home, Said, files_below, run, sqlite3};
use crate::evenings::{Evening, OPERATOR, give, suggested};

/// What of root's is in these folders.
fn of_root(folders: &[&Path]) -> Vec<PathBuf> {
    let all = folders.iter().flat_map(|folder| files_below(folder));
    all.map(|(path, _)| path)
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|m| m.uid() == 0))
        .collect()
}

#[test]
fn root_is_sent_to_the_owner_and_leaves_nothing_behind() {
    let evening = Evening::of_operator();
    let home = &evening.home;
    let nothing = || {
        let (state, repository) = (home.state(), home.repository());
        let locks = state.parent().unwrap().to_path_buf();
        assert_eq!(of_root(&[&locks, &repository]), Vec::<PathBuf>::new());
    };
    evening.says(&["snapshot"]).exits(0);
    let home_path = home.path();
    let op = ["--home", home_path.to_str().unwrap()];
    for call in [
        &["snapshot"][..],
        &["snapshot", "--dry-run"],
        &["forget", "--prune"],
        &["check"],
        &["drill"],
        &["recovery-kit", "--new-key", "--key-file", "/tmp/never"],
        &["init", "--repository", home.repository().to_str().unwrap()],
    ] {
        home.change();
        let said = evening.says_to_root(&[&op, call].concat()).exits(2);
        assert!(
            said.stderr.contains("refusing to write as root"),
            "{said:?}"
        );
        nothing();
        if call == ["snapshot"] {
            evening.followed(&said, &[]).pop().unwrap().exits(0);
        }
    }
    for kind in [&[][..], &["--cron"]] {
        let call = [&op, &["schedule", "--install"][..], kind].concat();
        let said = evening.says_to_root(&call).exits(2);
        let commands = suggested(&said);
        assert!(
            commands[0].starts_with(&format!("sudo -u '#{OPERATOR}' ")),
            "{said:?}"
        );
        assert!(commands[1].contains("--system"), "{said:?}");
        nothing();
    }
    // Who looks, and who brings back, is let in: and leaves nothing either.
    let doctor = evening.says_to_root(&["doctor"]).exits(1);
    assert!(
        doctor
            .stdout
            .contains("who cannot read the files that root"),
        "{doctor:?}"
    );
    assert!(!doctor.stdout.contains("chown"), "{doctor:?}");
    assert!(
        doctor.stdout.contains("and this runs as root"),
        "{doctor:?}"
    );
    nothing();
    let id = home.ids("hapi").pop().unwrap();
    fs::remove_file(home.database()).unwrap();
    for call in [
        &["status"][..],
        &["snapshots"],
        &["schedule", "--cron"],
        &["restore", &id, "--in-place"],
        &[
            "restore",
            "--target",
            home.dir.path().join("out").to_str().unwrap(),
        ],
    ] {
        evening.says_to_root(call).exits(0);
        nothing();
    }
    assert_eq!(fs::metadata(home.database()).unwrap().uid(), OPERATOR);
    evening.says(&["snapshot"]).exits(0);
    evening.says(&["check", "--read-data"]).exits(0);
    evening.says(&["drill"]).exits(0);
}

#[test]
fn root_first_leaves_a_new_home_to_its_user() {
    let evening = Evening::of_operator();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    let id = home.ids("hapi").pop().unwrap();
    let local = home.path().join(".local");
    let out = home.dir.path().join("out");
    for (call, code) in [
        (&["restore", &id, "--in-place"][..], 0),
        (&["restore", "--target", out.to_str().unwrap()], 0),
        (&["status", "--notify"], 0),
        (&["doctor"], 1),
    ] {
        fs::remove_dir_all(&local).unwrap();
        evening.says_to_root(call).exits(code);
        assert_eq!(of_root(&[&home.path()]), Vec::<PathBuf>::new(), "{call:?}");
        home.change();
        evening.says(&["snapshot"]).exits(0);
    }

    // What an older version left as root's: one command mends it.
    fs::remove_dir_all(&local).unwrap();
    fs::create_dir_all(local.join("state/rustic-hapi")).unwrap();
    fs::set_permissions(&local, fs::Permissions::from_mode(0o700)).unwrap();
    let said = evening.says(&["snapshot"]);
    assert_ne!(said.code, 0);
    evening.followed(&said, &[]).pop().unwrap().exits(0);
    evening.says(&["snapshot"]).exits(0);
}

#[test]
fn root_does_not_begin_in_another_users_home() {
    let home = Home::new();
    fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(home.repository()).unwrap();
    give(&home.path(), OPERATOR);
    give(&home.repository(), OPERATOR);
    let said = home.init().exits(2);
    assert!(
        said.stderr.contains("refusing to write as root"),
        "{said:?}"
    );
    assert!(
        suggested(&said)[0].starts_with(&format!("sudo -u '#{OPERATOR}' ")),
        "{said:?}"
    );
    assert_eq!(
        of_root(&[&home.path(), &home.repository()]),
        Vec::<PathBuf>::new()
    );
}

#[test]
fn roots_own_cron_over_a_service_accounts_home_goes_on() {
    // Home and hub are another user's, repository and state root's: so it was with 0.1.0.
    let evening = Evening::of_root();
    let home = &evening.home;
    fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    home.snapshot().exits(0);
    for path in [home.path(), home.hapi(""), home.database()] {
        chown(&path, Some(OPERATOR), Some(OPERATOR)).unwrap();
    }
    home.change();
    let said = evening.says(&["snapshot"]).exits(0);
    assert!(!said.stderr.contains("root"), "{said:?}");

    // A repository of the user's into which root has been writing: it goes on, and says what is wrong with it.
    for path in [home.repository(), home.repository().join("config")] {
        chown(&path, Some(OPERATOR), Some(OPERATOR)).unwrap();
    }
    home.change();
    let said = evening.says(&["snapshot"]).exits(0);
    assert!(said.stderr.contains("run it as that user"), "{said:?}");
    evening.says(&["doctor"]).exits(1);
    // What it suggests ends that for good.
    let commands = suggested(&said);
    evening.follows(&commands[0], &[]).exits(0);
    assert_eq!(of_root(&[&home.repository()]), Vec::<PathBuf>::new());
    let said = evening.says(&["snapshot"]).exits(2);
    assert_eq!(suggested(&said), commands[1..]);
}

#[test]
fn a_file_of_roots_is_not_damage_and_the_hint_mends_it() {
    let evening = Evening::of_operator();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    let packs = files_below(&home.repository().join("data"));
    let largest = packs.iter().max_by_key(|(_, size)| *size).unwrap();
    let newest = |folder: &str| {
        files_below(&home.repository().join(folder))
            .pop()
            .unwrap()
            .0
    };
    let run_lock = files_below(&home.state().parent().unwrap().join("locks"))
        .pop()
        .unwrap()
        .0;
    let cases = [
        (newest("snapshots"), &["snapshot"][..]),
        (newest("snapshots"), &["forget"]),
        (newest("index"), &["snapshot"]),
        (newest("index"), &["check"]),
        (newest("keys"), &["snapshots"]),
        (home.repository().join("config"), &["snapshot"]),
        (home.repository().join("snapshots"), &["snapshot"]),
        (largest.0.clone(), &["check", "--read-data"]),
        (run_lock, &["snapshot"]),
        (home.state(), &["snapshot"]),
        (home.state().join("staging"), &["snapshot"]),
    ];
    for (path, call) in cases {
        let were = fs::metadata(&path).unwrap().permissions();
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        chown(&path, Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        home.change();
        let said = evening.says(call);
        let case = format!("{} {call:?}: {said:?}", path.display());
        assert_ne!(said.code, 0, "{case}");
        let facts = [
            format!("`{}` belongs to root (mode {mode:04o})", path.display()),
            format!("this runs as #{OPERATOR}"),
        ];
        for fact in facts {
            assert!(
                format!("{}{}", said.stderr, said.stdout).contains(&fact),
                "{fact}: {case}"
            );
        }
        for lie in [
            "damaged",
            "interrupted upload",
            "rebuild-index",
            "remove it",
        ] {
            assert!(!said.stderr.contains(lie), "{lie}: {case}");
        }
        let commands = suggested(&said);
        let chown: Vec<_> = commands.iter().filter(|c| c.contains("chown")).collect();
        assert_eq!(chown.len(), 1, "{case}");
        evening.follows(chown[0], &[]).exits(0);
        fs::set_permissions(&path, were).unwrap();
        evening.says(call).exits(0);
    }

    // What is on record, too: the run goes on, and says what keeps it from being written down.
    let records = home.state().join("runs.lock");
    chown(&records, Some(0), Some(0)).unwrap();
    let said = evening.says(&["snapshot"]).exits(0);
    assert!(
        said.stderr.contains("this run was not recorded"),
        "{said:?}"
    );
    evening.followed(&said, &[]).pop().unwrap().exits(0);
    let said = evening.says(&["snapshot"]).exits(0);
    assert!(!said.stderr.contains("not recorded"), "{said:?}");

    // The owner's own mode: another command.
    let config = home.repository().join("config");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o0)).unwrap();
    let said = evening.says(&["snapshot"]);
    assert_ne!(said.code, 0);
    evening.followed(&said, &[]).pop().unwrap().exits(0);
    evening.says(&["snapshot"]).exits(0);
    let whole = run(
        "find",
        &[home.repository().as_os_str(), "-uid".as_ref(), "0".as_ref()],
    );
    assert_eq!(whole.stdout, "");
    assert_eq!(sqlite3(&home.database(), "PRAGMA integrity_check"), "ok");
}

#[test]
fn root_of_a_container_and_a_share_of_one_user_are_no_others() {
    // A container's root is the user who started it.
    let evening = Evening::of_operator();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    home.change();
    let (user, group) = (format!("--reuid={OPERATOR}"), format!("--regid={OPERATOR}"));
    let before = [
        &user,
        &group,
        "--clear-groups",
        "unshare",
        "--map-root-user",
    ];
    let mut contained = std::process::Command::new("setpriv");
    contained
        .args(before)
        .arg(home.dir.path().join("bin/rustic-hapi"))
        .arg("snapshot")
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir("/");
    let said = Said::from(contained.output().unwrap()).exits(0);
    assert!(!said.stderr.contains("root"), "{said:?}");
    evening.says(&["snapshot"]).exits(0);

    // All that is on such a share is one user's, whoever makes it.
    let home = Home::new();
    let options = ["--force-user=54321", "--force-group=54321"];
    let behind = home.dir.path().join("behind");
    let _share = BindFs::mount(&behind, home.repository(), &options);
    home.init().exits(0);
    home.snapshot().exits(0);
    home.change();
    let said = home.snapshot().exits(0);
    assert!(!said.stderr.contains("root"), "{said:?}");
    let owner = fs::metadata(home.repository().join("config"))
        .unwrap()
        .uid();
    assert_eq!(owner, OPERATOR);
}

#[test]
fn what_may_not_be_read_is_not_different() {
    let evening = Evening::of_operator();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    evening.says(&["drill"]).exits(0);
    let files = |folder: &str| {
        let files = files_below(&home.repository().join(folder));
        files.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    let mut packs = files_below(&home.repository().join("data"));
    packs.sort_by_key(|(_, size)| *size);
    let largest = vec![packs.pop().unwrap().0];
    let out = home.dir.path().join("out");
    fs::create_dir(&out).unwrap();
    give(&out, OPERATOR);
    let restore = ["restore", "--target", out.to_str().unwrap()];
    for denied in [files("snapshots")[..1].to_vec(), files("data"), largest] {
        for call in [&["drill"][..], &restore] {
            for file in &denied {
                chown(file, Some(0), Some(0)).unwrap();
            }
            let said = evening.says(call);
            match call {
                ["drill"] => assert_eq!(said.code, 22, "{said:?}"),
                _ if denied[0].starts_with(home.repository().join("snapshots")) => {}
                _ => assert_ne!(said.code, 0, "{said:?}"),
            }
            for lie in ["DIFFERENT", "is not what it says", "check --read-data"] {
                let all = format!("{}{}", said.stdout, said.stderr);
                assert!(!all.contains(lie), "{lie}: {said:?}");
            }
            let commands = suggested(&said);
            let chown: Vec<_> = commands.iter().filter(|c| c.contains("chown")).collect();
            assert_eq!(chown.len(), 1, "{said:?}");
            let status = evening.says(&["status"]);
            assert!(!status.stdout.contains("difference"), "{status:?}");
            evening.follows(chown[0], &[]).exits(0);
            evening.says(call).exits(0);
        }
    }
}

#[test]
fn a_state_folder_that_cannot_be_written_to_makes_no_other_machine() {
    let evening = Evening::of_operator();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o555)).unwrap();
    home.change();
    let said = evening.says(&["snapshot"]).exits(0);
    let fact = format!(
        "`{}` belongs to #{OPERATOR} (mode 0555)",
        home.state().display()
    );
    assert!(said.stderr.contains(&fact), "{said:?}");
    for time in ["next", "after it"] {
        home.change();
        if time == "after it" {
            evening.followed(&said, &[]).pop().unwrap().exits(0);
        }
        let said = evening.says(&["snapshot"]).exits(0);
        let lie = "another machine";
        assert!(!said.stderr.contains(lie), "{time}: {said:?}");
    }
    // A snapshot of another machine's is told again.
    assert!(
        !home
            .state()
            .parent()
            .unwrap()
            .join("locks")
            .read_dir()
            .unwrap()
            .flatten()
            .any(|e| { e.file_name().to_string_lossy().ends_with(".behind") })
    );
    evening.says(&["status"]).exits(0);
}

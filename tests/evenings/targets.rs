//! Where a restore lands: it says so, and never in a folder that is live.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::sqlite3;
use crate::evenings::{Evening, suggested};

#[test]
fn a_restore_says_where_things_land_and_lands_in_no_live_folder() {
    let evening = Evening::of_root();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    let live = || {
        sqlite3(
            &home.database(),
            "PRAGMA integrity_check; SELECT count(*) FROM sessions",
        )
    };
    let before = live();
    let inside = home.hapi("restored");
    for target in [
        home.hapi(""),
        inside.clone(),
        home.path(),
        home.path().join("voice-test-output"),
        home.path().join("coding/hapi/docs/plans/x"),
        home.dir.path().to_path_buf(),
    ] {
        let call = ["restore", "--target", target.to_str().unwrap()];
        let said = evening.says(&call).exits(2);
        assert!(
            said.stderr
                .contains("restored files would be mistaken for them"),
            "{said:?}"
        );
        assert_eq!(live(), before);
        let said = evening.follows(&suggested(&said)[0], &[]).exits(0);
        // What it says is where it is.
        let wanted = home.database();
        let place = said
            .stdout
            .lines()
            .find(|l| l.ends_with(wanted.to_str().unwrap()));
        let place = PathBuf::from(place.unwrap_or_else(|| panic!("{said:?}")).trim());
        assert_ne!(place, wanted);
        assert!(place.is_file(), "{said:?}");
        let scratch = place
            .ancestors()
            .find(|p| p.parent() == Some(Path::new("/tmp")));
        fs::remove_dir_all(scratch.unwrap()).unwrap();
    }
    // What was asked for besides the place stays.
    let id = home.ids("hapi").pop().unwrap();
    let call = ["restore", &id[..8], "--source", "hapi.db", "--target"];
    let said = evening.says(&[&call[..], &[inside.to_str().unwrap()]].concat());
    let command = suggested(&said.exits(2))[0].clone();
    assert!(
        command.starts_with(&call.join(" ").replacen("restore", "rustic-hapi restore", 1)),
        "{command}"
    );
    assert!(!inside.exists() && !home.hapi("tmp").exists());
    // Beside them is well, in the home, too; a try says the same places.
    let beside = home.path().join("restored");
    for more in [&["--dry-run"][..], &[]] {
        let said = home.restore(&beside, more).exits(0);
        let place = beside.join(home.database().strip_prefix("/").unwrap());
        assert!(said.stdout.contains(place.to_str().unwrap()), "{said:?}");
    }
}

#[test]
fn nothing_is_restored_among_our_own_files() {
    let evening = Evening::of_root();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    for target in [
        home.repository(),
        home.repository().join("data/x"),
        home.profile().parent().unwrap().join("out"),
        home.state().join("staging/out"),
    ] {
        let call = ["restore", "--target", target.to_str().unwrap()];
        let said = evening.says(&call).exits(2);
        assert!(
            said.stderr.contains("which has rustic-hapi's own files"),
            "{said:?}"
        );
        assert!(suggested(&said)[0].contains("mktemp -d"), "{said:?}");
        assert!(!target.join("home").exists());
    }
    evening.says(&["check"]).exits(0);
}

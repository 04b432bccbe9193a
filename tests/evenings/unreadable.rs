//! A database that this user may not read: SQLite says "unable to open database file" to everything, so the file
//! that is in the way is named.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use crate::common::{BusyHub, run, sqlite3};
use crate::evenings::{Evening, OPERATOR, give, suggested};

#[test]
fn a_crash_left_a_journal_and_no_mode_is_to_blame() {
    let evening = Evening::of_operator();
    let home = &evening.home;
    let database = home.database();
    // A writer that was killed in the middle of a transaction, which does not fit into its cache.
    let script = "import os,sqlite3,sys\ndb=sqlite3.connect(sys.argv[1],isolation_level=None)\ndb.execute('pragma journal_mode=delete')\ndb.execute('pragma cache_size=1')\ndb.execute('begin')\ndb.execute('update messages set session_id=session_id')\nos._exit(0)";
    run(
        "python3",
        &["-c".as_ref(), script.as_ref(), database.as_os_str()],
    );
    assert!(fs::metadata(home.hapi("hapi.db-journal")).unwrap().len() > 0);
    give(&home.hapi(""), OPERATOR);
    fs::set_permissions(home.hapi(""), fs::Permissions::from_mode(0o500)).unwrap();
    let said = evening.says(&["snapshot"]);
    fs::set_permissions(home.hapi(""), fs::Permissions::from_mode(0o700)).unwrap();
    assert_ne!(said.code, 0);
    assert!(said.stderr.contains("start the hub once"), "{said:?}");
    assert!(!said.stderr.contains("chmod"), "{said:?}");
}

#[test]
fn the_file_that_is_in_the_way_of_a_database_is_named_and_let_in() {
    let evening = Evening::of_operator();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    // Path, whose and which mode, whether the hub was killed, and so left side files.
    let database = home.database();
    let (wal, shm) = (home.hapi("hapi.db-wal"), home.hapi("hapi.db-shm"));
    let folder = home.hapi("");
    let cases = [
        (&database, OPERATOR, 0o000, false),
        (&database, 0, 0o600, false),
        (&wal, 0, 0o600, true),
        (&wal, OPERATOR, 0o000, true),
        (&shm, OPERATOR, 0o000, true),
        (&folder, OPERATOR, 0o500, false),
        (&folder, OPERATOR, 0o600, false),
    ];
    for (path, owner, mode, killed) in cases {
        let case = format!("{} {owner} {mode:o}", path.display());
        BusyHub::start(&database).kill();
        if !killed {
            sqlite3(&database, "PRAGMA wal_checkpoint(TRUNCATE)");
            _ = fs::remove_file(&wal);
            _ = fs::remove_file(&shm);
        }
        give(&folder, OPERATOR);
        let were = fs::metadata(path).unwrap().permissions();
        chown(path, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();

        let said = evening.says(&["snapshot"]);
        assert_ne!(said.code, 0, "{case}");
        let name = path.display().to_string();
        let name = name.trim_end_matches('/');
        assert!(
            said.stderr.contains(&format!("`{name}` belongs to ")),
            "{case}: {said:?}"
        );
        assert!(
            said.stderr.contains(&format!("this runs as #{OPERATOR}")),
            "{case}: {said:?}"
        );
        let doctor = evening.says(&["doctor"]).exits(1);
        assert!(
            doctor.stdout.contains(&format!("`{name}` belongs to ")),
            "{case}: {doctor:?}"
        );
        assert!(
            !doctor.stdout.contains("is not writable"),
            "{case}: {doctor:?}"
        );
        let of_database: Vec<String> = suggested(&said)
            .into_iter()
            .filter(|command| command.contains(".hapi"))
            .collect();
        assert!(!of_database.is_empty(), "{case}: {said:?}");
        evening.follows(&of_database[0], &[]).exits(0);
        evening.says(&["snapshot"]).exits(0);
        fs::set_permissions(path, were).unwrap();
    }
}

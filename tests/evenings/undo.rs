//! The way back from a restore in place: one line, whatever else is said.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::common::sqlite3;
use crate::evenings::{Evening, OPERATOR, suggested};

#[test]
fn the_undo_of_a_restore_in_place_is_one_line_with_q_too() {
    let evening = Evening::of_operator();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    let identity = home.identity();
    crate::evenings::give(&identity, OPERATOR);
    let identity = identity.to_str().unwrap();
    let all = [
        "--source",
        "hapi.db",
        "--source",
        "hub.env",
        "--identity",
        identity,
    ];
    let env = home.hapi("hub.env");
    for (how, sources) in [
        (&["-q"][..], &[][..]),
        (&[], &all),
        (&["-q"], &all),
        (&["-q"], &all[2..]),
    ] {
        sqlite3(&home.database(), "CREATE TABLE IF NOT EXISTS since(n)");
        fs::write(&env, "LATER=1\n").unwrap();
        let since = || {
            let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'since'";
            let table = sqlite3(&home.database(), sql) == "1";
            (table, fs::read_to_string(&env).unwrap().contains("LATER"))
        };
        let call = [&["restore", "--in-place", "--yes"], how, sources].concat();
        let said = evening.says(&call).exits(0);
        assert_ne!(since(), (true, true), "{call:?}");
        let undo: Vec<String> = suggested(&said)
            .into_iter()
            .filter(|c| c.starts_with("sh "))
            .collect();
        assert_eq!(undo.len(), 1, "{said:?}");
        assert!(!said.stdout.contains("mv "), "{said:?}");
        evening.follows(&undo[0], &[]).exits(0);
        assert_eq!(since(), (true, true), "{call:?}: {said:?}");
        assert_eq!(fs::metadata(home.database()).unwrap().uid(), OPERATOR);
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
}

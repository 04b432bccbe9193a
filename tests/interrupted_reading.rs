//! Ctrl-C while conversations are read: no half page, no copy of a database, and the code of the table.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Home, Said, files_below, sqlite3};

/// Ends a command as soon as there is something in a folder.
fn interrupted(mut command: Command, folder: &Path, is_begun: impl Fn(&str) -> bool) -> Said {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    loop {
        let begun = files_below(folder)
            .iter()
            .any(|(path, size)| *size > 0 && is_begun(&path.to_string_lossy()));
        if begun {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "it never begins");
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn an_interrupted_reading_leaves_nothing_behind() {
    let home = Home::initialised();
    sqlite3(
        &home.database(),
        "INSERT INTO messages (id, session_id, content, created_at, seq, local_id) SELECT n, (SELECT id FROM sessions), '{\"role\":\"user\",\"content\":{\"type\":\"text\",\"text\":\"a word of a person\"}}', n, n, NULL FROM (WITH RECURSIVE c(n) AS (SELECT 100000 UNION ALL SELECT n + 1 FROM c WHERE n < 400000) SELECT n FROM c)",
    );
    home.snapshot().exits(0);
    let staging = home.state().join("staging");
    let session = sqlite3(&home.database(), "SELECT id FROM sessions");
    let session = session.lines().next().unwrap();
    let pages = home.dir.path().join("pages");
    fs::create_dir(&pages).unwrap();
    let page = pages.join("page.html");
    for place in [&[][..], &["--live"], &["--all-snapshots"]] {
        let mut export = home.command();
        export
            .args(["export", session, "-o"])
            .arg(&page)
            .args(place);
        let said = interrupted(export, &pages, |_| true).exits(130);
        assert!(said.stderr.contains("interrupted"), "{said:?}");
        assert_eq!(
            (files_below(&pages), files_below(&staging)),
            (vec![], vec![])
        );
    }
    for search in [&[][..], &["--search", "nobody said this"]] {
        let mut sessions = home.command();
        sessions.args(["sessions", "--all-snapshots"]).args(search);
        let said = interrupted(sessions, &staging, |name| name.contains("database")).exits(130);
        assert_eq!(said.stdout, "");
        assert_eq!(files_below(&staging), []);
    }
    // Whoever calls it again has the whole.
    home.hapi_command(&["export", session, "-o", page.to_str().unwrap()])
        .exits(0);
}

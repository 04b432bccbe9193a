//! The transcripts of agents: switched on by `init --with-agents` or one line of the profile, taken once a day, up to
//! the last whole line.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{Home, cheap, files_below, sqlite3};

const MONDAY: &str = "2026-11-16T06:00:00Z";
const EVENING: &str = "2026-11-16T18:00:00Z";
const TUESDAY: &str = "2026-11-17T06:00:00Z";

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn transcripts_are_taken_once_a_day_up_to_a_whole_line_and_come_back() {
    let home = Home::new();
    let claude = home
        .path()
        .join(".claude/projects/-home-u-parser/1f2e.jsonl");
    put(&claude, "{\"n\":1}\n{\"n\":2}\n{\"n\":");
    // Codex has its home elsewhere in this shell, and no timer knows.
    let codex = home
        .path()
        .join("elsewhere/sessions/2026/11/16/rollout.jsonl");
    put(&codex, "{\"codex\":1}\n");
    let cursor = home.path().join(".cursor/chats/drawer/chat/store.db");
    fs::create_dir_all(cursor.parent().unwrap()).unwrap();
    sqlite3(
        &cursor,
        "CREATE TABLE blobs (id, data); INSERT INTO blobs VALUES ('a', x'00')",
    );

    // Off by default.
    cheap::repository(&home.repository(), &home.password());
    home.init().exits(0);
    home.at(MONDAY, &["snapshot"]).exits(0);
    assert_eq!(home.ids("hapi-agents"), [""; 0]);

    let said = home
        .command()
        .env("CODEX_HOME", home.path().join("elsewhere"))
        .args(["init", "--with-agents", "--json"])
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&said.stdout).unwrap();
    let names: Vec<_> = found["agents"]
        .as_array()
        .unwrap_or_else(|| panic!("{found:#}"))
        .iter()
        .map(|agent| {
            (
                agent["name"].as_str().unwrap(),
                agent["files"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(names, [("codex", 1), ("claude", 1), ("cursor", 1)]);
    let profile = fs::read_to_string(home.profile()).unwrap();
    assert!(profile.contains("agents = true"), "{profile}");
    // Once more changes nothing.
    home.hapi_command(&["init", "--with-agents"]).exits(0);
    assert_eq!(fs::read_to_string(home.profile()).unwrap(), profile);

    home.at(MONDAY, &["snapshot"]).exits(0);
    home.at(EVENING, &["snapshot"]).exits(0);
    assert_eq!(home.ids("hapi-agents").len(), 1);
    assert_eq!(home.ids("hapi").len(), 3);
    put(&claude, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    home.at(TUESDAY, &["snapshot"]).exits(0);
    let ids = home.ids("hapi-agents");
    assert_eq!(ids.len(), 2);
    home.at(TUESDAY, &["status", "--max-age", "1h"]).exits(0);

    for (id, text) in ids.iter().zip([
        "{\"n\":1}\n{\"n\":2}\n",
        "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n",
    ]) {
        let target = home.dir.path().join(&id[..8]);
        home.hapi_command(&["restore", id, "--target", target.to_str().unwrap()])
            .exits(0);
        let below = |path: &Path| target.join(path.strip_prefix("/").unwrap());
        assert_eq!(fs::read_to_string(below(&claude)).unwrap(), text);
        assert_eq!(
            fs::read_to_string(below(&codex)).unwrap(),
            "{\"codex\":1}\n"
        );
        assert_eq!(sqlite3(&below(&cursor), "SELECT id FROM blobs"), "a");
        assert_eq!(files_below(&target).len(), 3);
    }
    home.drill(&[]).exits(0);
    // Agents' databases are no hub's.
    let all = home
        .hapi_command(&["sessions", "--all-snapshots", "--json"])
        .exits(0)
        .json();
    assert_eq!(all["sessions"].as_array().unwrap().len(), 78);
}

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

    // Off by default, and said so.
    cheap::repository(&home.repository(), &home.password());
    let said = home.init().exits(0).stdout;
    let expected = "NOT taken: claude (a file, 21 B), cursor (a file, 8.00 KiB)";
    assert!(said.contains(expected), "{said}");
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
    assert_eq!(found["agents-not-taken"], Value::Null);
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

#[test]
fn a_running_hubs_variables_say_where_transcripts_are() {
    let home = Home::new();
    let base = home.dir.path().join("agents [of mine]");
    let put = |name: &str, text: &str| put(&base.join(name), text);
    put("claude/projects/p/1.jsonl", "{}\n");
    put("grok/sessions/p/s/updates.jsonl", "{}\n{");
    put("grok/sessions/p/s/summary.json", "{\"id\":1}");
    put("dsh/sessions/p/s/session.jsonl.zstd", "(\n\0");
    put("dsh/attachments/v1/picture", "png");
    put("gemini/.gemini/tmp/parser/chats/s.jsonl", "{}\n");
    put("gemini/.gemini/tmp/parser/.project_root", "/home/u/parser");
    fs::create_dir_all(base.join("data/opencode")).unwrap();
    sqlite3(
        &base.join("data/opencode/opencode.db"),
        "CREATE TABLE t (x)",
    );

    // The hub's own variables; the shell has none of them.
    let mut hub = std::process::Command::new("python3");
    hub.args([
        "-c",
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('SELECT 1 FROM sessions').fetchone()\nprint(1, flush=True)\nsys.stdin.read()",
    ]);
    hub.arg(home.database()).current_dir(&base);
    hub.env("HOME", home.path())
        .env("CLAUDE_CONFIG_DIR", base.join("claude"))
        .env("XDG_DATA_HOME", base.join("data"))
        .env("DSH_HOME", base.join("dsh"))
        .env("GEMINI_CLI_HOME", base.join("gemini"))
        // As the agents that it starts would take it.
        .env("GROK_HOME", "grok");
    hub.stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut hub = hub.spawn().unwrap();
    std::io::Read::read_exact(hub.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    cheap::repository(&home.repository(), &home.password());
    let mut init = home.init_command(home.repository().to_str().unwrap());
    let hapi_home = home.path().join(".hapi");
    let said = init
        .args(["--with-agents", "--json", "--hapi-home"])
        .arg(hapi_home)
        .output()
        .unwrap();
    drop(hub.stdin.take());
    hub.wait().unwrap();
    let found: Value = serde_json::from_slice(&said.stdout).unwrap();
    let found: Vec<_> = found["agents"]
        .as_array()
        .unwrap_or_else(|| panic!("{found:#}"))
        .iter()
        .map(|agent| (agent["name"].as_str().unwrap(), agent["files"].clone()))
        .collect();
    let expected = [
        ("claude", 1),
        ("dsh", 2),
        ("gemini", 2),
        ("grok", 2),
        ("opencode", 1),
    ];
    assert_eq!(found, expected.map(|(name, files)| (name, files.into())));
    home.at(MONDAY, &["snapshot"]).exits(0);
    let target = home.dir.path().join("back");
    let id = home.ids("hapi-agents").pop().unwrap();
    home.hapi_command(&["restore", &id, "--target", target.to_str().unwrap()])
        .exits(0);
    let back = |name: &str| {
        let path = base.join(name);
        fs::read_to_string(target.join(path.strip_prefix("/").unwrap())).unwrap()
    };
    assert_eq!(back("grok/sessions/p/s/updates.jsonl"), "{}\n");
    assert_eq!(back("grok/sessions/p/s/summary.json"), "{\"id\":1}");
    assert_eq!(back("dsh/sessions/p/s/session.jsonl.zstd"), "(\n\0");
    assert_eq!(files_below(&target).len(), 8);
}

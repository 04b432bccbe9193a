//! One conversation is read without a hub: out of a snapshot, out of all of them, or live. The hub is the real one, and
//! what it says of itself is the measure.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::hub::RealHub;
use crate::common::{Home, files_below, files_with, on_terminal, sqlite3};

/// A home whose hub is the real one, with a repository.
fn home_with_a_hub() -> (Home, RealHub) {
    let home = Home::new();
    fs::remove_file(home.database()).unwrap();
    _ = fs::remove_file(home.hapi("hapi.db-wal"));
    _ = fs::remove_file(home.hapi("hapi.db-shm"));
    let hub = RealHub::start(&home.path().join(".hapi"));
    crate::common::cheap::repository(&home.repository(), &home.password());
    home.init().exits(0);
    (home, hub)
}

fn metadata(name: &str) -> Value {
    json!({ "path": "/home/u/parser", "host": "workshop", "name": name, "flavor": "claude" })
}

/// An entry of Claude's stream.
fn output(data: &Value) -> Value {
    json!({ "role": "agent", "content": { "type": "output", "data": data } })
}

/// An entry of every other agent's.
fn codex(data: &Value) -> Value {
    json!({ "role": "agent", "content": { "type": "codex", "data": data } })
}

fn long(word: &str) -> String {
    format!("{word} and more. ").repeat(40)
}

/// What agents say, with a word for each kind.
fn everything() -> Vec<Value> {
    let blocks = |blocks: Value| json!({ "type": "assistant", "message": { "role": "assistant", "content": blocks } });
    vec![
        output(&blocks(json!([
            { "type": "thinking", "thinking": "thought-aloud" },
            { "type": "text", "text": format!("## Prose-heading\n\n{}\n\n```rust\nfn prose_code() {{}}\n```\n", long("prose-long")) },
            { "type": "tool_use", "id": "t1", "name": "Bash", "input": { "command": "ls tool-call-input", "description": "List them" } },
        ]))),
        output(
            &json!({ "type": "user", "message": { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "t1", "content": long("tool-result-text"), "is_error": true },
        ] } }),
        ),
        codex(&json!({ "type": "message", "message": "codex-message" })),
        codex(&json!({ "type": "reasoning", "message": "codex-reasoning", "id": "r" })),
        codex(
            &json!({ "type": "tool-call", "callId": "c", "name": "apply_patch", "input": { "patch": "--- codex-patch\n+++ b" } }),
        ),
        codex(
            &json!({ "type": "tool-call-result", "callId": "c", "output": { "codex-output": 1 } }),
        ),
        codex(&json!({ "type": "token_count", "info": { "total": { "inputTokens": 4711 } } })),
        output(&json!({ "type": "system", "subtype": "init", "model": "hidden-by-the-hub" })),
        output(
            &json!({ "type": "assistant", "isMeta": true, "message": { "content": "meta-hidden" } }),
        ),
        json!({ "role": "agent", "content": { "type": "event", "data": { "type": "message", "message": "event-line" } } }),
        json!({ "role": "agent", "content": { "type": "telepathy", "waves": ["kind-that-nobody-knows"] } }),
        json!({ "neither": "role nor content" }),
    ]
}

#[test]
fn a_conversation_of_the_real_hub_is_exported_as_the_hub_does_it_and_whole() {
    let (home, hub) = home_with_a_hub();
    let session = hub.session("one", &metadata("Mend the parser"));
    hub.agent_says(&session, &everything(), true);
    hub.person_says(&session, "person-asks", None);
    hub.person_says(&session, &long("person-waits"), Some("local-1"));
    hub.note(&session, "note-of-the-person");
    let quiet = hub.session("two", &metadata("Nothing yet"));
    home.snapshot().exits(0);
    let known = hub.export(&session);
    drop(hub);
    assert_eq!(
        sqlite3(
            &home.database(),
            "SELECT count(*) > 0 FROM messages WHERE typeof(content) = 'blob'"
        ),
        "1",
        "no content is long enough to be compressed"
    );

    let listed = home.hapi_command(&["sessions", "--json"]).exits(0).json();
    let of = |id: &str| {
        let sessions = listed["sessions"].as_array().unwrap();
        sessions
            .iter()
            .find(|listed| listed["id"] == id)
            .unwrap()
            .clone()
    };
    let one = of(&session);
    assert_eq!(one["title"], "Mend the parser");
    assert_eq!(
        (&one["project"], &one["agent"]),
        (&json!("/home/u/parser"), &json!("claude"))
    );
    assert_eq!(one["messages"], 14);
    assert!(one["first"].is_string() && one["last"].is_string() && one["snapshot"].is_string());
    assert_eq!(
        (&of(&quiet)["messages"], &of(&quiet)["last"]),
        (&json!(0), &Value::Null)
    );
    let shown = home.hapi_command(&["sessions"]).exits(0).stdout;
    assert!(shown.contains("Mend the parser  /home/u/parser"), "{shown}");
    let found = home
        .hapi_command(&["sessions", "--search", "PERSON-WAITS"])
        .exits(0)
        .stdout;
    assert!(
        found.contains("1 message: person-waits and more."),
        "{found}"
    );
    let nothing = home
        .hapi_command(&["sessions", "--search", "nobody said this"])
        .exits(0)
        .stdout;
    assert!(nothing.starts_with("no session in snapshot "), "{nothing}");

    // JSON: all that the hub exports, as the hub does it, and what it leaves out.
    let exported = home
        .hapi_command(&["export", &session, "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(exported["schemaVersion"], known["schemaVersion"]);
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&exported), keys(&known));
    // What a running hub has in memory.
    let runtime = [
        "seq",
        "active",
        "activeAt",
        "thinking",
        "thinkingAt",
        "activeTurnStartedAt",
        "updatedAt",
    ];
    for (name, value) in known["session"].as_object().unwrap() {
        if !runtime.contains(&name.as_str()) {
            assert_eq!(&exported["session"][name], value, "{name}");
        }
    }
    for name in runtime {
        assert!(exported["session"].get(name).is_some(), "{name}");
    }
    assert_eq!(exported["scratchlist"], known["scratchlist"]);
    let by_id: BTreeMap<&str, &Value> = exported["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| (message["id"].as_str().unwrap(), message))
        .collect();
    let theirs = known["messages"].as_array().unwrap();
    for message in theirs {
        assert_eq!(by_id[message["id"].as_str().unwrap()], message);
    }
    let order: Vec<_> = exported["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| theirs.contains(m))
        .collect();
    assert_eq!(order, theirs.iter().collect::<Vec<_>>());
    assert_eq!(by_id.len(), 14);
    assert!(
        theirs.len() < 14,
        "the hub leaves out what waits and what it does not show"
    );

    // Every message is in the others, too.
    for format in ["html", "markdown"] {
        let text = home
            .hapi_command(&["export", &session[..8], "--format", format])
            .exits(0)
            .stdout;
        for word in [
            "Mend the parser",
            "thought-aloud",
            "Prose-heading",
            "prose-long",
            "prose_code",
            "tool-call-input",
            "tool-result-text",
            "codex-message",
            "codex-reasoning",
            "codex-patch",
            "codex-output",
            "4711",
            "hidden-by-the-hub",
            "meta-hidden",
            "event-line",
            "telepathy",
            "kind-that-nobody-knows",
            "role nor content",
            "person-asks",
            "person-waits",
            "queued, not delivered",
            "note-of-the-person",
        ] {
            assert!(text.contains(word), "{format} lacks {word}:\n{text}");
        }
    }
    leaves_nothing(&home, "person-waits");
}

#[test]
fn a_deleted_conversation_is_found_in_the_snapshots_and_little_is_fetched_for_it() {
    let (home, hub) = home_with_a_hub();
    let kept = hub.session("kept", &metadata("Stays"));
    let gone = hub.session("gone", &metadata("Goes"));
    // So much that a snapshot is more than a few chunks.
    let noise: Vec<Value> = (0..120u64)
        .map(|n| {
            let text: String = (0..300u64)
                .map(|i| format!("{:x} ", (n * 7919 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
                .collect();
            codex(&json!({ "type": "message", "message": text }))
        })
        .collect();
    hub.agent_says(&kept, &noise, false);
    hub.agent_says(
        &gone,
        &[codex(
            &json!({ "type": "message", "message": "the words that were deleted" }),
        )],
        false,
    );
    home.snapshot().exits(0);
    hub.delete(&gone);
    home.snapshot().exits(0);
    drop(hub);

    let said = home.hapi_command(&["export", &gone]);
    let hint = format!("`rustic-hapi export {gone} --all-snapshots`");
    assert!(said.code == 1 && said.stderr.contains(&hint), "{said:?}");
    assert!(
        !home
            .hapi_command(&["sessions"])
            .exits(0)
            .stdout
            .contains("Goes")
    );

    let shown = home
        .hapi_command(&["sessions", "--all-snapshots", "--search", "were deleted"])
        .exits(0)
        .stdout;
    assert!(
        shown.contains("Goes") && !shown.contains("Stays"),
        "{shown}"
    );
    let all = home
        .hapi_command(&["sessions", "--all-snapshots", "--json"])
        .exits(0)
        .json();
    let snapshots = home.ids("hapi");
    let from = |title: &str| {
        let sessions = all["sessions"].as_array().unwrap();
        let listed: Vec<_> = sessions
            .iter()
            .filter(|listed| listed["title"] == title)
            .collect();
        assert_eq!(listed.len(), 1, "{title}");
        listed[0]["snapshot"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (from("Stays"), from("Goes")),
        (snapshots[1].clone(), snapshots[0].clone())
    );

    let said = home
        .hapi_command(&[
            "-v",
            "export",
            &gone,
            "--all-snapshots",
            "--format",
            "markdown",
        ])
        .exits(0);
    assert!(
        said.stdout.contains("the words that were deleted"),
        "{}",
        said.stdout
    );
    let fetched = said
        .stderr
        .lines()
        .find_map(|line| line.split_once(" bytes came from the repository"));
    let fetched: u64 = fetched
        .unwrap()
        .0
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let size = home.manifest("hapi")["sources"][0]["entries"][0]["size"]
        .as_u64()
        .unwrap();
    assert!(
        fetched < size + size / 2,
        "{fetched} bytes for two states of {size}"
    );
    leaves_nothing(&home, "the words that were deleted");
}

#[test]
fn the_live_database_is_read_while_the_hub_runs_and_the_file_is_the_operators_alone() {
    let (home, hub) = home_with_a_hub();
    let session = hub.session("live", &metadata("Right now"));
    hub.agent_says(
        &session,
        &[codex(
            &json!({ "type": "message", "message": "said a moment ago" }),
        )],
        false,
    );
    let page = home.dir.path().join("page.html");
    let page_path = page.to_str().unwrap();
    // No repository is needed for it.
    fs::rename(home.repository(), home.dir.path().join("away")).unwrap();
    let said = home
        .hapi_command(&["export", &session, "--live", "-o", page_path])
        .exits(0);
    assert!(
        said.stdout.contains("1 messages") && said.stdout.contains("from the live database"),
        "{said:?}"
    );
    assert!(
        fs::read_to_string(&page)
            .unwrap()
            .contains("said a moment ago")
    );
    assert_eq!(
        fs::metadata(&page).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        home.hapi_command(&["sessions", "--live"])
            .exits(0)
            .stdout
            .contains("Right now")
    );
    // Nothing is replaced, and nothing half written is left.
    let said = home.hapi_command(&["export", &session, "--live", "-o", page_path]);
    assert!(said.code == 2 && said.stderr.contains("exists"), "{said:?}");
    let beside: Vec<_> = fs::read_dir(home.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        !beside
            .iter()
            .any(|name| name.to_string_lossy().starts_with(".tmp")),
        "{beside:?}"
    );
    // A page is not for a terminal, and a report not where the conversation goes.
    let mut command = home.command();
    command.args(["export", &session, "--live"]);
    let said = on_terminal(&command, &[]);
    assert!(
        said.code == 2 && said.stdout.contains("-o conversation.html"),
        "{said:?}"
    );
    assert_eq!(
        home.hapi_command(&["export", &session, "--live", "--json"])
            .code,
        2
    );
    leaves_nothing(&home, "said a moment ago");
    drop(hub);
}

/// Contents that want to do something where they are shown.
const HOSTILE: [&str; 9] = [
    "<script>alert('page')</script>",
    "</style></title></main><script src=//evil.example/x.js></script>",
    "[click me](javascript:alert(1)) ![pixel](https://evil.example/pixel.png) <img src=x onerror=alert(1)>",
    "[upper](JAVASCRIPT:x) [data](data:text/html;base64,PHNjcmlwdD4=) <javascript:alert(1)>",
    "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m bell\u{7} back\u{8}space",
    "right-to-left \u{202e}txt.exe\u{202c} and \u{2066}isolated\u{2069}",
    "```\nnever closed <b onclick=x>",
    "[ref][r]\n\n[r]: vbscript:msgbox",
    "\" onmouseover=\"alert(1)\" x='",
];

#[test]
fn hostile_text_does_nothing_on_a_page_in_markdown_or_on_a_terminal() {
    let home = Home::initialised();
    let database = home.database();
    sqlite3(&database, "DELETE FROM messages");
    let session = sqlite3(&database, "SELECT id FROM sessions LIMIT 1");
    let title = format!("{}\n{}", HOSTILE[0], HOSTILE[4..6].join(" "));
    let name =
        json!({ "name": title, "path": HOSTILE[1], "host": HOSTILE[8], "flavor": HOSTILE[4] });
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    sqlite3(
        &database,
        &format!(
            "UPDATE sessions SET metadata = {} WHERE id = '{session}'",
            quoted(&name.to_string())
        ),
    );
    let mut seq = 0;
    let mut insert = |content: &Value| {
        seq += 1;
        let content = quoted(&content.to_string());
        sqlite3(
            &database,
            &format!(
                "INSERT INTO messages (id, session_id, content, created_at, seq) VALUES ('m{seq}', '{session}', {content}, {seq}000, {seq})"
            ),
        );
    };
    for text in HOSTILE {
        insert(
            &json!({ "role": "user", "content": { "type": "text", "text": text, "attachments": [{ "filename": text, "mimeType": text }] } }),
        );
        insert(&codex(&json!({ "type": "message", "message": text })));
        insert(&codex(
            &json!({ "type": "tool-call", "name": text, "input": { text: text, "command": text } }),
        ));
        insert(&codex(
            &json!({ "type": "tool-call-result", "output": { text: [text] } }),
        ));
        insert(&json!({ "role": text, "content": { "type": text } }));
        insert(
            &json!({ "role": "agent", "content": { "type": "event", "data": { "type": "message", "message": text } } }),
        );
    }
    home.snapshot();

    let page = home.hapi_command(&["export", &session]).exits(0).stdout;
    harmless_page(&page);
    for word in [
        "alert(&#39;page&#39;)",
        "⟨U+202E⟩txt.exe",
        "␛]0;owned␇",
        "⟨U+009B⟩31m",
    ] {
        assert!(page.contains(word), "{word}");
    }

    let markdown = home
        .hapi_command(&["export", &session, "--format", "markdown"])
        .exits(0)
        .stdout;
    for acts in [
        "<script",
        "<img",
        "](javascript",
        "![pixel]",
        "\u{1b}",
        "\u{9b}",
        "\u{202e}",
    ] {
        let lines = markdown
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains(acts));
        // Within a block of code it is a text.
        for (at, line) in lines {
            let before = markdown.lines().take(at);
            let fences = before.filter(|line| line.starts_with("```")).count();
            let escaped = line.contains(&format!("\\{acts}"))
                || line.contains("\\[click me")
                || line.contains("\\!\\[");
            assert!(fences % 2 == 1 || escaped, "{acts}: line {at}: {line}");
        }
    }

    let listed = home
        .hapi_command(&["sessions", "--search", "script"])
        .exits(0);
    for stream in [&listed.stdout, &listed.stderr] {
        assert!(
            !stream.contains(|c: char| c.is_control() && c != '\n'),
            "{stream:?}"
        );
        assert!(!stream.contains(['\u{202e}', '\u{2066}']), "{stream:?}");
    }
    // JSON says the same, and does nothing either.
    let exported = home
        .hapi_command(&["export", &session, "--format", "json"])
        .exits(0);
    assert!(
        !exported
            .stdout
            .contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{7f}'])
    );
    assert_eq!(exported.json()["session"]["metadata"], name);
}

/// A page of nothing but our own elements and attributes, whose links lead to where links may.
fn harmless_page(page: &str) {
    let policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';";
    assert!(page.contains(policy));
    let (_, body) = page.split_once("<body>").unwrap();
    for tag in body.split('<').skip(1) {
        let (inside, _) = tag.split_once('>').unwrap();
        let name = inside
            .trim_start_matches('/')
            .split([' ', '\n'])
            .next()
            .unwrap();
        let known = [
            "a", "article", "b", "bdi", "body", "code", "dd", "details", "div", "dl", "dt", "em",
            "h1", "h2", "h6", "header", "html", "main", "p", "pre", "small", "span", "summary",
            "time",
        ];
        assert!(known.contains(&name), "<{inside}>");
        let mut rest = inside.trim_start_matches(name);
        while let Some((attribute, after)) = rest.split_once("=\"") {
            let attribute = attribute.trim();
            let (value, after) = after.split_once('"').unwrap();
            assert!(
                ["class", "id", "dir", "href", "datetime"].contains(&attribute),
                "<{inside}>"
            );
            if attribute == "href" {
                assert!(
                    ["#m", "https://", "http://", "mailto:"]
                        .iter()
                        .any(|to| value.starts_with(to)),
                    "<{inside}>"
                );
            }
            rest = after;
        }
        assert!(!rest.contains('='), "<{inside}>");
    }
}

#[test]
fn a_shrunk_snapshot_is_not_chosen_for_somebody_and_can_be_named() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let messages = |place: &[&str]| {
        let said = home
            .hapi_command(&[&["sessions", "--json"], place].concat())
            .exits(0)
            .json();
        let sessions = said["sessions"].as_array().unwrap();
        sessions
            .iter()
            .map(|session| session["messages"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(messages(&[]), 300);
    sqlite3(&home.database(), "DELETE FROM messages WHERE rowid > 10");
    home.snapshot();
    let shrunk = home.ids("shrunk").pop().unwrap();
    let said = home.hapi_command(&["sessions", "--json"]).exits(0);
    assert!(said.stderr.contains("tagged shrunk"), "{said:?}");
    assert_eq!((messages(&[]), messages(&[&shrunk])), (300, 10));
    assert_eq!(
        (messages(&["--live"]), messages(&["--all-snapshots"])),
        (10, 300)
    );
    let all = home.hapi_command(&["sessions", "--all-snapshots"]).exits(0);
    let hint = format!("`rustic-hapi sessions {}`", &shrunk[..8]);
    assert!(all.stderr.contains(&hint), "{all:?}");

    // Where there is no other, nothing is chosen.
    let keep = home
        .ids("hapi")
        .into_iter()
        .find(|id| *id != shrunk)
        .unwrap();
    home.restic(&["forget", &keep]);
    let said = home.hapi_command(&["sessions"]);
    assert!(said.code == 1 && said.stderr.contains(&hint), "{said:?}");
    assert_eq!(messages(&[&shrunk]), 10);
}

#[test]
fn what_cannot_be_read_is_said_where_it_stands_and_the_rest_is_there() {
    let home = Home::initialised();
    let database = home.database();
    let session = sqlite3(
        &database,
        "SELECT session_id FROM messages GROUP BY 1 HAVING count(*) > 4 LIMIT 1",
    );
    let of_it = format!(
        "SELECT id FROM messages WHERE session_id = '{session}' ORDER BY created_at LIMIT 1"
    );
    sqlite3(
        &database,
        &format!("UPDATE messages SET content = x'00010203' WHERE id = ({of_it})"),
    );
    sqlite3(
        &database,
        &format!("UPDATE messages SET content = 'no JSON at all' WHERE id = ({of_it} OFFSET 1)"),
    );
    // Messages whose session is gone, as an older hub leaves them.
    sqlite3(
        &database,
        "INSERT INTO messages (id, session_id, content, created_at, seq) VALUES ('x', 'orphan-session', '{\"role\":\"user\",\"content\":\"still here\"}', 5, 1)",
    );
    home.snapshot();

    let page = home.hapi_command(&["export", &session]);
    assert!(
        page.code == 1 && page.stderr.contains("1 of "),
        "{}",
        page.stderr
    );
    assert!(
        page.stdout
            .contains("This message cannot be read: its 4 bytes are not valid zstd")
    );
    assert!(page.stdout.contains("no JSON at all") && page.stdout.ends_with("</html>\n"));
    let json = home.hapi_command(&["export", &session, "--format", "json"]);
    assert!(
        json.code == 1 && json.stderr.contains("2 of "),
        "{}",
        json.stderr
    );
    assert_eq!(json.json()["messages"][0]["content"], Value::Null);
    assert!(
        home.hapi_command(&["export", "orphan"])
            .exits(0)
            .stdout
            .contains("still here")
    );
    // Of a database that the repository does not have any more, nothing is shown.
    let packs = files_below(&home.repository().join("data"));
    let (largest, _) = packs.iter().max_by_key(|(_, size)| size).unwrap();
    let pack = fs::read(largest).unwrap();
    fs::write(largest, vec![0; pack.len()]).unwrap();
    for place in [&[][..], &["--all-snapshots"]] {
        let said = home.hapi_command(&[&["sessions"], place].concat());
        assert!(said.code == 1 && said.stdout.is_empty(), "{said:?}");
        assert!(said.stderr.contains("cannot be read"), "{said:?}");
    }
    fs::write(largest, pack).unwrap();
    // Too little of an id, and none of that name.
    assert_eq!(home.hapi_command(&["export", "ab"]).code, 2);
    assert_eq!(home.hapi_command(&["export", "zzzz"]).code, 1);
}

/// No copy of a conversation stays in a folder of ours, or in the system's.
fn leaves_nothing(home: &Home, words: &str) {
    let staging = home.state().join("staging");
    assert_eq!(files_below(&staging), []);
    assert_eq!(files_with(&home.state(), words), [""; 0].map(Path::new));
}

/// A message that says this, in the first session.
fn say(database: &Path, id: &str, text: &str) {
    let content = json!({ "role": "user", "content": { "type": "text", "text": text } });
    let session = "(SELECT id FROM sessions LIMIT 1)";
    sqlite3(
        database,
        &format!(
            "INSERT INTO messages (id, session_id, content, created_at, seq) VALUES ('{id}', {session}, '{content}', 1, 99999)"
        ),
    );
}

#[test]
fn a_search_says_what_it_could_not_read() {
    let home = Home::initialised();
    let database = home.database();
    say(&database, "needle", "the-needle-words");
    let live = |words: &str| home.hapi_command(&["sessions", "--live", "--search", words]);
    let counts = |words: &str| {
        let said = home.hapi_command(&["sessions", "--live", "--search", words, "--json"]);
        let json = said.json();
        (
            said.code,
            json["exit"].clone(),
            json["unreadable"].clone(),
            json["unread"].clone(),
        )
    };
    assert_eq!(counts("the-needle"), (0, json!(0), json!(0), json!(0)));

    // One message is damaged: what was found stands, and the rest is not called searched.
    sqlite3(
        &database,
        "UPDATE messages SET content = x'00010203' WHERE id = (SELECT id FROM messages WHERE id <> 'needle' LIMIT 1)",
    );
    for (words, found) in [
        ("the-needle", "1 message: "),
        ("not-there", "no session in"),
    ] {
        let said = live(words);
        assert!(said.code == 3 && said.stdout.contains(found), "{said:?}");
        let lost = "error: 1 message could not be read, so the search did not see it";
        assert!(said.stderr.contains(lost), "{said:?}");
        assert_eq!(counts(words), (3, json!(3), json!(1), json!(0)));
    }
    let nothing = live("not-there").stdout;
    assert!(
        nothing.ends_with("; 1 message could not be read\n"),
        "{nothing}"
    );
    assert!(home.hapi_command(&["sessions", "--live"]).code == 0);

    // What orders the messages may be missing; what they say may not.
    let indexes = sqlite3(
        &database,
        "SELECT group_concat('DROP INDEX ' || name, ';') FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = 'messages'",
    );
    sqlite3(&database, &indexes);
    sqlite3(&database, "ALTER TABLE messages DROP COLUMN seq");
    assert!(live("the-needle").stdout.contains("1 message: "));
    sqlite3(
        &database,
        "ALTER TABLE messages RENAME COLUMN content TO body",
    );
    let all = sqlite3(&database, "SELECT count(*) FROM messages");
    let all: u64 = all.parse().unwrap();
    assert_eq!(counts("the-needle"), (3, json!(3), json!(all), json!(0)));
    let session = sqlite3(&database, "SELECT session_id FROM messages LIMIT 1");
    let said = home.hapi_command(&["export", &session, "--live", "--format", "markdown"]);
    let of_it = format!("SELECT count(*) FROM messages WHERE session_id = '{session}'");
    let of_it = sqlite3(&database, &of_it);
    let lost = format!("{of_it} of {of_it} messages could not be read");
    assert!(said.code == 1 && said.stderr.contains(&lost), "{said:?}");
    assert!(said.stdout.contains("has no column `content`"), "{said:?}");
}

#[test]
fn an_older_snapshot_is_searched_for_what_a_newer_one_lost_and_unread_ones_are_counted() {
    let home = Home::initialised();
    let database = home.database();
    say(&database, "needle", "the-needle-words");
    home.snapshot().exits(0);
    let of_the_first = files_below(&home.repository().join("data"));
    sqlite3(
        &database,
        "UPDATE messages SET content = x'00010203' WHERE id = 'needle'",
    );
    home.snapshot().exits(0);
    let search =
        |words: &str| home.hapi_command(&["sessions", "--all-snapshots", "--search", words]);
    let found = search("the-needle").exits(0);
    assert!(found.stdout.contains("1 message: "), "{found:?}");

    for (pack, size) in files_below(&home.repository().join("data")) {
        if !of_the_first.contains(&(pack.clone(), size)) {
            fs::write(&pack, vec![0; usize::try_from(size).unwrap()]).unwrap();
        }
    }
    let said = search("not-there");
    assert!(said.code == 3, "{said:?}");
    let lost = "no session in 1 snapshot has “not-there”; 1 snapshot could not be read\n";
    assert_eq!(said.stdout, lost, "{said:?}");
    assert!(
        said.stderr.contains("error: 1 snapshot could not be read"),
        "{said:?}"
    );
    let said = home.hapi_command(&["sessions", "--all-snapshots", "--json"]);
    assert_eq!((said.code, &said.json()["unread"]), (3, &json!(1)));
    let said = home.hapi_command(&["export", "zzzz", "--all-snapshots"]);
    assert!(
        said.code == 1 && said.stderr.contains("; 1 could not be read: "),
        "{said:?}"
    );
}

#[test]
fn a_hubs_database_without_a_table_is_called_that() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    sqlite3(&home.database(), "DROP TABLE messages");
    home.snapshot();
    for place in ["--live", "latest"] {
        let said = home.hapi_command(&["sessions", place]);
        let lacks = format!("`{}` has no table `messages`", home.database().display());
        assert!(said.code == 1 && said.stderr.contains(&lacks), "{said:?}");
    }
}

#[test]
fn ids_that_begin_alike_are_told_apart() {
    let home = Home::initialised();
    for id in ["5a5a5a5a-0001-x", "5a5a5a5a-0002-y"] {
        sqlite3(
            &home.database(),
            &format!(
                "UPDATE sessions SET id = '{id}' WHERE id = (SELECT id FROM sessions WHERE id NOT LIKE '5a5a5a5a-%' LIMIT 1)"
            ),
        );
    }
    let said = home.hapi_command(&["export", "5a5a5a5a", "--live"]);
    assert!(said.code == 2, "{said:?}");
    for id in ["5a5a5a5a-0001-x", "5a5a5a5a-0002-y"] {
        assert!(said.stderr.contains(id), "{said:?}");
    }
    let listed = home.hapi_command(&["sessions", "--live"]).exits(0).stdout;
    assert!(listed.contains("5a5a5a5a-0001  "), "{listed}");
}

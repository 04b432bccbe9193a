//! What HAPI begins to store after the profile was written: it is taken encrypted where that may be, and told once
//! where it may not.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::common::hub::RealHub;
use crate::common::{Home, Said, Tmpfs, files_with, sqlite3};

/// It stands in files that nobody knows, and may stand nowhere else in plain.
const CANARY: &str = "canary-of-an-unknown-file-7d1f";

/// What the main series says in JSON.
fn main(said: &Said) -> Value {
    let series = said.json()["series"].as_array().unwrap().clone();
    series.into_iter().find(|s| s["name"] == "hapi").unwrap()
}

fn other_files(said: &Said) -> Value {
    let sources = main(said)["sources"].as_array().unwrap().clone();
    sources
        .into_iter()
        .find(|s| s["name"] == "other-files")
        .unwrap()
}

/// The names that a run reports as uncovered, told before or not.
fn uncovered(said: &Said) -> Vec<String> {
    let names = main(said)["uncovered"].as_array().unwrap().clone();
    names
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The lines that a hint gives for the profile.
fn lines(said: &Said) -> String {
    let (_, lines) = said.stderr.split_once(".toml`:\n").unwrap();
    lines.split("\n\nwarning:").next().unwrap().to_owned()
}

fn sparse(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}

/// What today's hub and runner leave, and makes again.
fn what_comes_again(home: &Home) {
    for folder in [
        "runtime/0.30.7/tools",
        "bin",
        "logs",
        "locks/agent",
        "cache",
        "tmp/hooks",
    ] {
        fs::create_dir_all(home.hapi(folder)).unwrap();
        fs::write(home.hapi(folder).join("file"), "x").unwrap();
    }
    for file in [
        "runner.state.json",
        "runner.state.json.lock",
        "runner.state.json.tmp",
        "access.key",
        "hapi.db.bak-2026",
        ".settings.123.tmp",
        "settings.json.lock",
    ] {
        fs::write(home.hapi(file), "x").unwrap();
    }
}

#[test]
fn what_is_new_is_taken_encrypted_and_comes_back() {
    let home = Home::initialised();
    what_comes_again(&home);
    let said = home.snapshot().exits(0);
    assert_eq!(other_files(&said)["outcome"], "absent");
    assert_eq!(uncovered(&said), [""; 0]);

    let folder = home.hapi("attachments");
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::write(folder.join("deep/er/a file.bin"), CANARY).unwrap();
    fs::write(folder.join("x.age"), "not of age").unwrap();
    fs::write(folder.join("x"), "beside it").unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    symlink("deep/er", folder.join("link.age")).unwrap();
    fs::write(
        home.hapi("state-v2.json"),
        format!("{{\"k\": \"{CANARY}\"}}"),
    )
    .unwrap();
    let program = home.hapi("hook");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let said = home.snapshot().exits(0);
    let taken = other_files(&said);
    assert_eq!(
        (&taken["files"], &taken["kind"]),
        (&6.into(), &"secret".into())
    );
    assert!(!said.stderr.contains("in no snapshot"), "{said:?}");
    assert_eq!(main(&home.snapshot().exits(0))["unchanged"], true);
    // No plaintext anywhere.
    for place in [
        home.path().join(".local"),
        home.path().join(".config"),
        home.repository(),
    ] {
        assert_eq!(
            files_with(&place, CANARY),
            [""; 0].map(Into::<std::path::PathBuf>::into)
        );
    }
    let sealed = home.dir.path().join("sealed");
    home.restore(&sealed, &["--source", "other-files"]).exits(0);
    assert!(files_with(&sealed, CANARY).is_empty());

    let key = home.identity();
    let key = key.to_str().unwrap();
    home.drill(&["--identity", key]).exits(0);
    let target = home.dir.path().join("restored");
    home.restore(&target, &["--identity", key]).exits(0);
    let back = target
        .join(home.path().strip_prefix("/").unwrap())
        .join(".hapi");
    for file in [
        "attachments/deep/er/a file.bin",
        "attachments/x.age",
        "attachments/x",
        "attachments/empty",
        "state-v2.json",
        "hook",
    ] {
        assert_eq!(
            fs::read(back.join(file)).unwrap(),
            fs::read(home.hapi(file)).unwrap(),
            "{file}"
        );
    }
    assert_eq!(
        fs::read_link(back.join("attachments/link.age")).unwrap(),
        Path::new("deep/er")
    );
    let mode = fs::metadata(back.join("hook"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700, "private, and still a program");

    // And to where it lived.
    fs::remove_dir_all(&folder).unwrap();
    fs::write(home.hapi("state-v2.json"), "lost").unwrap();
    home.hapi_command(&[
        "restore",
        "--in-place",
        "--yes",
        "--source",
        "other-files",
        "--identity",
        key,
    ])
    .exits(0);
    assert_eq!(
        fs::read_to_string(folder.join("deep/er/a file.bin")).unwrap(),
        CANARY
    );
    assert!(
        fs::read_to_string(home.hapi("state-v2.json"))
            .unwrap()
            .contains(CANARY)
    );
    assert_eq!(
        fs::read_link(folder.join("link.age")).unwrap(),
        Path::new("deep/er")
    );
    // The restore's own files are not new state.
    let said = home.snapshot().exits(0);
    assert_eq!(other_files(&said)["files"], 6, "{said:?}");

    // What nobody knows may go again: nothing is pinned by that.
    fs::remove_dir_all(&folder).unwrap();
    fs::remove_file(home.hapi("state-v2.json")).unwrap();
    fs::remove_file(&program).unwrap();
    let said = home.snapshot().exits(0);
    assert_eq!(main(&said)["shrunk"], Value::Null, "{said:?}");
    assert_eq!(other_files(&said)["outcome"], "absent");
    home.drill(&["--identity", key]).exits(0);
}

#[test]
fn what_cannot_be_taken_is_told_once_with_lines_that_take_it() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    fs::create_dir(home.hapi("big")).unwrap();
    sparse(&home.hapi("big/one.bin"), 1 << 30);
    sqlite3(
        &home.hapi("big/index.db"),
        "PRAGMA journal_mode = WAL; CREATE TABLE t(n); INSERT INTO t VALUES (1)",
    );
    sqlite3(
        &home.hapi("second [1].db"),
        "CREATE TABLE t(n); INSERT INTO t VALUES (1), (2)",
    );
    let elsewhere = home.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("photo"), CANARY).unwrap();
    symlink(&elsewhere, home.hapi("photos")).unwrap();
    fs::write(home.hapi("small"), CANARY).unwrap();

    let told = home.dir.path().join("told");
    home.edit_profile(|text| {
        format!(
            "{text}\n[notify]\ncommand = \"echo $RUSTIC_HAPI_OUTCOME >> {}\"\n",
            told.display()
        )
    });
    let said = home.snapshot().exits(0);
    assert_eq!(uncovered(&said), ["big", "photos", "second [1].db"]);
    for fact in [
        "`big` in",
        "16.00 MiB",
        "`photos` in",
        "symbolic link",
        "`second [1].db` in",
        "SQLite database",
    ] {
        assert!(said.stderr.contains(fact), "{fact}: {said:?}");
    }
    assert_eq!(other_files(&said)["files"], 1, "the small one is taken");
    assert!(fs::read_to_string(&told).unwrap().contains("anomaly"));
    // Once; then it is a line of the status.
    let again = home.snapshot().exits(0);
    assert!(!again.stderr.contains("in no snapshot"), "{again:?}");
    assert!(
        !fs::read_to_string(&told)
            .unwrap()
            .trim_end()
            .ends_with("anomaly")
    );
    let status = home.hapi_command(&["status"]).exits(0);
    for name in ["`big`", "`photos`", "`second [1].db`"] {
        assert!(status.stderr.contains(name), "{status:?}");
    }
    let doctor = home.hapi_command(&["doctor"]);
    assert!(doctor.stdout.contains("kind = \"sqlite\""), "{doctor:?}");

    // The lines, as they stand there.
    let end = lines(&said);
    sparse(&home.hapi("big/one.bin"), 1 << 20);
    home.edit_profile(|text| text + "\n" + &end);
    home.hapi_command(&["profile", "check"]).exits(0);
    let status = home.hapi_command(&["status"]).exits(0);
    assert!(!status.stderr.contains("`big`"), "{status:?}");
    let said = home.snapshot().exits(0);
    assert_eq!(uncovered(&said), [""; 0], "{said:?}");
    let manifest = home.manifest("hapi").to_string();
    for path in [
        "big/index.db",
        "second [1].db",
        "photos/photo",
        "big/one.bin",
    ] {
        assert!(manifest.contains(path), "{path}");
    }
    let rows = home.manifest("hapi");
    let databases = rows["sources"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["kind"] == "sqlite");
    assert_eq!(databases.count(), 3);
}

#[test]
fn without_anybody_to_encrypt_to_nothing_is_taken_and_all_is_told() {
    let home = Home::new();
    crate::common::cheap::repository(&home.repository(), &home.password());
    let repository = home.repository();
    let said = home.hapi_command(&[
        "init",
        "--allow-same-disk",
        "--repository",
        repository.to_str().unwrap(),
    ]);
    said.exits(0);
    fs::create_dir(home.hapi("attachments")).unwrap();
    fs::write(home.hapi("attachments/a"), CANARY).unwrap();
    fs::write(home.hapi("notes"), CANARY).unwrap();
    let keys = home.path().join("keys");
    fs::create_dir(&keys).unwrap();
    fs::write(keys.join("sa.json"), "{\"private_key\": \"x\"}").unwrap();
    fs::write(
        home.hapi("settings.json"),
        "{\"fcmServiceAccountPath\": \"~/keys/sa.json\"}",
    )
    .unwrap();
    let said = home.snapshot().exits(0);
    let key = keys.join("sa.json").to_str().unwrap().to_owned();
    assert_eq!(
        uncovered(&said),
        ["attachments", "notes", key.as_str()],
        "{said:?}"
    );
    assert!(said.stderr.contains("init --recipient"), "{said:?}");
    assert!(!said.stderr.contains("other-files"), "{said:?}");
    let again = home.snapshot().exits(0);
    assert!(!again.stderr.contains("attachments"), "{again:?}");
    // What is not wanted.
    home.edit_profile(|text| format!("ignore = [\"attachments\", \"n*s\"]\n{text}"));
    let status = home.hapi_command(&["status"]).exits(0);
    assert!(!status.stderr.contains("attachments"), "{status:?}");
    assert_eq!(uncovered(&home.snapshot().exits(0)), [key]);
    // With a recipient there is nothing left to tell.
    home.hapi_command(&["init", "--recipient", &home.recipient])
        .exits(0);
    let said = home.snapshot().exits(0);
    assert_eq!(uncovered(&said), [""; 0]);
    assert!(
        home.manifest("hapi")
            .to_string()
            .contains("keys/sa.json.age")
    );
}

#[test]
fn a_profile_of_ones_own_and_one_without_secrets_go_on_working() {
    let home = Home::initialised();
    fs::write(home.hapi("new"), "x").unwrap();
    let own = home.write_profile(
        "own",
        &format!(
            "[[source]]\nname = \"db\"\npath = {:?}\nkind = \"sqlite\"\n",
            home.database()
        ),
    );
    let own = own.to_str().unwrap();
    let said = home
        .hapi_command(&["snapshot", "--json", "--profile", own])
        .exits(0);
    assert!(
        said.stderr.contains("`new` in") && said.stderr.contains("no source of the profile"),
        "{said:?}"
    );
    // Inherited, with every secret left out and no recipient.
    home.edit_profile(|text| {
        let text = text.replace(
            &format!("recipients = [\"{}\"]", home.recipient),
            "recipients = []",
        );
        text.replace(
            "extends = \"hapi\"\n",
            "extends = \"hapi\"\nwithout = [\"hub.env\", \"settings.json\", \"jwt-secret.json\"]\n",
        )
    });
    let said = home.snapshot().exits(0);
    assert!(uncovered(&said).contains(&"new".to_owned()), "{said:?}");
}

#[test]
fn neither_a_mount_nor_a_changing_file_nor_a_pipe_spoils_a_run() {
    let home = Home::initialised();
    let _mount = Tmpfs::mount(home.hapi("mounted"), "size=1m");
    fs::write(home.hapi("mounted/file"), "x").unwrap();
    std::process::Command::new("mkfifo")
        .arg(home.hapi("pipe"))
        .status()
        .unwrap();
    let busy = home.hapi("busy.log");
    fs::write(&busy, "x").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                use std::io::Write;
                let mut file = File::options().append(true).open(&busy).unwrap();
                file.write_all(b"more\n").unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let said = home.snapshot();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        said
    });
    let said = said.exits(0);
    let told = uncovered(&said);
    assert!(told.contains(&"mounted".to_owned()), "{said:?}");
    // It may have stood still for a moment.
    let taken = other_files(&said)["files"] == 1;
    assert!(taken != told.contains(&"busy.log".to_owned()), "{said:?}");
}

#[test]
fn the_keys_that_the_settings_name_are_followed_at_each_run() {
    let home = Home::initialised();
    let keys = home.path().join("keys");
    fs::create_dir(&keys).unwrap();
    let settings = |text: &str| fs::write(home.hapi("settings.json"), text).unwrap();
    let taken = || {
        let manifest = home.manifest("hapi");
        let paths = manifest["sources"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|s| s["kind"] == "secret");
        let paths = paths.flat_map(|s| s["entries"].as_array().unwrap().clone());
        paths
            .map(|e| e["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let at = |name: &str| keys.join(name).to_str().unwrap().to_owned() + ".age";
    fs::write(
        keys.join("sa.json"),
        format!("{{\"private_key\": \"{CANARY}\"}}"),
    )
    .unwrap();
    fs::write(keys.join("a.p8"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    settings("{\"fcmServiceAccountPath\": \" ~/keys/sa.json \"}");
    home.snapshot().exits(0);
    assert!(taken().contains(&at("sa.json")), "{:?}", taken());
    // Another one, by its whole path, and in HAPI's own home.
    fs::copy(keys.join("sa.json"), home.hapi("moved.json")).unwrap();
    settings(&format!(
        "{{\"apnsKeyP8Path\": {:?}, \"fcmServiceAccountPath\": {:?}}}",
        keys.join("a.p8"),
        home.hapi("moved.json")
    ));
    let said = home.snapshot().exits(0);
    assert!(taken().contains(&at("a.p8")), "{:?}", taken());
    assert_eq!(other_files(&said)["files"], 0, "it has a source");
    let key = home.identity();
    let target = home.dir.path().join("restored");
    home.restore(&target, &["--identity", key.to_str().unwrap()])
        .exits(0);
    let back = target.join(home.hapi("moved.json").strip_prefix("/").unwrap());
    assert!(fs::read_to_string(back).unwrap().contains(CANARY));
    home.drill(&["--identity", key.to_str().unwrap()]).exits(0);
    // None, and one that the operator names himself.
    settings("{}");
    home.snapshot().exits(0);
    settings("{\"fcmServiceAccountPath\": \"keys/relative.json\"}");
    let said = home.snapshot().exits(0);
    assert!(said.stderr.contains("not an absolute path"), "{said:?}");
    // Once: a mail twice a day would be read no more.
    let said = home.snapshot().exits(0);
    assert!(!said.stderr.contains("not an absolute path"), "{said:?}");
    settings("{\"fcmServiceAccountPath\": \"~/keys/sa.json\"}");
    home.edit_profile(|text| {
        text + "\n[[source]]\nname = \"mine\"\npath = \"~/keys/sa.json\"\nkind = \"file\"\n"
    });
    home.snapshot().exits(0);
    let manifest = home.manifest("hapi");
    let mine = manifest["sources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["name"] == "mine")
        .unwrap();
    assert_eq!(mine["entries"].as_array().unwrap().len(), 1, "{mine}");
    fs::write(keys.join("sa.json"), vec![b'x'; (1 << 20) + 1]).unwrap();
    home.edit_profile(|text| {
        text.replace("name = \"mine\"", "name = \"mine\"\nrequired = false")
            .replace("~/keys/sa.json\"\nkind", "~/keys/none.json\"\nkind")
    });
    home.snapshot().exits(3);
}

#[test]
fn a_run_as_root_takes_no_key_that_the_hubs_owner_could_not_read() {
    let home = Home::initialised();
    let (ours, theirs) = (
        home.dir.path().join("root-only"),
        home.path().join("keys.json"),
    );
    fs::write(&ours, format!("{{\"k\": \"{CANARY}\"}}")).unwrap();
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&theirs, "{}").unwrap();
    crate::evenings::give(&home.path().join(".hapi"), crate::evenings::OPERATOR);
    crate::evenings::give(&theirs, crate::evenings::OPERATOR);
    let settings = |path: &Path| {
        fs::write(
            home.hapi("settings.json"),
            format!("{{\"apnsKeyP8Path\": {path:?}}}"),
        )
        .unwrap();
    };
    settings(&theirs);
    home.snapshot().exits(0);
    settings(&ours);
    let said = home.snapshot().exits(3);
    assert!(
        said.stderr.contains("not readable by the owner"),
        "{said:?}"
    );
    // A link of theirs makes no difference.
    let link = home.path().join("link.json");
    symlink(&ours, &link).unwrap();
    settings(&link);
    home.snapshot().exits(3);
}

#[test]
fn nothing_of_the_real_hub_is_uncovered() {
    let home = Home::new();
    fs::remove_dir_all(home.path().join(".hapi")).unwrap();
    fs::create_dir(home.path().join(".hapi")).unwrap();
    let hub = RealHub::start(&home.path().join(".hapi"));
    let session = hub.session("one", &serde_json::json!({ "path": "/work", "host": "h" }));
    let hi = serde_json::json!({ "role": "agent", "content": { "type": "output", "data": "hi" } });
    hub.agent_says(&session, &[hi], true);
    hub.person_says(&session, "hello", Some("1"));
    hub.note(&session, "remember");
    let second = hub.session("two", &serde_json::json!({ "path": "/work", "host": "h" }));
    hub.delete(&second);
    crate::common::cheap::repository(&home.repository(), &home.password());
    let location = home.repository();
    home.init_command(location.to_str().unwrap())
        .args(["--extends", "hapi-stock"])
        .output()
        .unwrap();
    let said = home.snapshot().exits(0);
    assert_eq!(uncovered(&said), [""; 0], "{said:?}");
    assert_eq!(other_files(&said)["outcome"], "absent", "{said:?}");
    assert_eq!(main(&said)["hapi"], "0.30.7");
    assert!(!said.stderr.contains("hapi-home"), "{said:?}");
    let list = home.hapi_command(&["snapshots"]).exits(0);
    assert!(list.stdout.contains("0.30.7"), "{list:?}");
    let database = &main(&said)["sources"][0];
    assert_eq!(database["rows"]["session_scratchlist"], 1, "{database}");
    // Where it unpacked nothing, its package knows: the running one's, else that of the `hapi` of this shell.
    let version = |path: &Path| {
        let mut command = home.command();
        let said = command.args(["recovery-kit", "--json"]).env("PATH", path);
        Said::from(said.output().unwrap()).json()["hapi"].clone()
    };
    fs::rename(home.hapi("runtime"), home.dir.path().join("runtime")).unwrap();
    assert_eq!(version(Path::new("/nowhere")), "0.30.7");
    drop(hub);
    assert_eq!(version(Path::new("/nowhere")), serde_json::Value::Null);
    let bin = crate::common::hub::program().parent().unwrap();
    assert_eq!(version(bin), "0.30.7");
    // A restored home boots it.
    let key = home.identity();
    let target = home.dir.path().join("restored");
    home.restore(&target, &["--identity", key.to_str().unwrap()])
        .exits(0);
    let back = target.join(home.path().join(".hapi").strip_prefix("/").unwrap());
    let hub = RealHub::start(&back);
    let export = hub.export(&session).to_string();
    assert!(export.contains("\"hi\""), "{export}");
}

#[test]
fn rows_without_their_attachment_are_reported_and_are_no_difference() {
    let home = Home::initialised();
    fs::create_dir_all(home.hapi("scratchlist-attachments/default/s1")).unwrap();
    fs::write(home.hapi("scratchlist-attachments/default/s1/1-a.png"), "a").unwrap();
    let list = |names: &[&str]| {
        let each = names.iter().map(|name| {
            format!("{{\"id\": \"1\", \"path\": \"hapi-hub:scratchlist/default/s1/{name}\"}}")
        });
        format!("[{}]", each.collect::<Vec<_>>().join(","))
    };
    sqlite3(
        &home.database(),
        &format!(
            "CREATE TABLE session_scratchlist(session_id, entry_id, text, attachments);
             INSERT INTO session_scratchlist VALUES ('s1', '1', 'x', '{}'), ('s1', '2', 'y', NULL), ('s1', '3', 'z', 'no list')",
            list(&["1-a.png"])
        ),
    );
    let said = home.snapshot().exits(0);
    assert!(!said.stderr.contains("attachments that"), "{said:?}");
    sqlite3(
        &home.database(),
        &format!(
            "INSERT INTO session_scratchlist VALUES ('s1', '4', 'x', '{}')",
            list(&["1-a.png", "2-b.png"])
        ),
    );
    let fact =
        "rows of hapi.db name attachments that are not in the snapshot: `default/s1/2-b.png`";
    let said = home.snapshot().exits(0);
    assert!(said.stderr.contains(fact), "{said:?}");
    assert!(!home.snapshot().exits(0).stderr.contains(fact));
    let drill = home.drill(&[]).exits(0);
    assert!(drill.stderr.contains(fact), "{drill:?}");
    let check = home.hapi_command(&["check"]).exits(0);
    assert!(
        format!("{}{}", check.stdout, check.stderr).contains(fact),
        "{check:?}"
    );
}

/// Another process than ours that has a database open, with an environment of its own.
struct Holder(std::process::Child);

impl Holder {
    fn start(home: &Home, database: &Path, environment: &[(&str, &str)]) -> Self {
        let ready = home.dir.path().join("ready");
        let child = std::process::Command::new("python3")
            .args(["-c", "import sqlite3,sys,time\nd=sqlite3.connect(sys.argv[1])\nd.execute('SELECT count(*) FROM sqlite_schema').fetchall()\nopen(sys.argv[2],'w').close()\ntime.sleep(120)"])
            .args([database, &ready])
            .env("HOME", home.path())
            .envs(environment.iter().copied())
            .current_dir(database.parent().unwrap())
            .spawn()
            .unwrap();
        while !ready.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn a_hub_is_found_where_its_own_environment_says() {
    let home = Home::new();
    let state = home.dir.path().join("var lib");
    fs::create_dir(&state).unwrap();
    let database = state.join("hub.sqlite");
    fs::rename(home.database(), &database).unwrap();
    for side in ["-wal", "-shm"] {
        _ = fs::remove_file(home.hapi(&format!("hapi.db{side}")));
    }
    let settings = state.join("home");
    fs::create_dir(&settings).unwrap();
    let key = home.dir.path().join("sa.json");
    fs::write(&key, "{\"private_key\": \"x\"}").unwrap();
    // What was left behind.
    sqlite3(&home.database(), "CREATE TABLE t(n)");
    let hub = Holder::start(
        &home,
        &database,
        &[
            // As the hub reads them, seen from where it runs.
            ("DB_PATH", "./hub.sqlite"),
            ("HAPI_HOME", "home"),
            ("FCM_SERVICE_ACCOUNT_PATH", "../sa.json"),
            ("CLI_API_TOKEN", CANARY),
        ],
    );
    // And what starts it.
    let unit = home.path().join(".config/systemd/user/hapi-hub.service");
    fs::create_dir_all(unit.with_extension("service.d")).unwrap();
    fs::write(
        &unit,
        "[Service]\nExecStart=/usr/bin/hapi hub\nEnvironmentFile=%h/keys.env\n",
    )
    .unwrap();
    fs::write(
        unit.with_extension("service.d").join("x.conf"),
        format!("[Service]\nEnvironment=K={CANARY}\n"),
    )
    .unwrap();
    fs::write(home.path().join("keys.env"), format!("API_KEY={CANARY}\n")).unwrap();
    crate::common::cheap::repository(&home.repository(), &home.password());
    let said: Said = home
        .init_command(home.repository().to_str().unwrap())
        .args(["--extends", "hapi-stock"])
        .output()
        .unwrap()
        .into();
    let said = said.exits(0);
    assert!(said.stdout.contains("the running hub, process"), "{said:?}");
    let profile = fs::read_to_string(home.profile()).unwrap();
    for line in [
        &database,
        &settings,
        &key,
        &unit,
        &home.path().join("keys.env"),
    ] {
        assert!(
            profile.contains(line.to_str().unwrap()),
            "{line:?}: {profile}"
        );
    }
    assert!(!profile.contains(CANARY));
    let said = home.snapshot().exits(0);
    let manifest = home.manifest("hapi").to_string();
    for path in [
        "hub.sqlite",
        "sa.json.age",
        "hapi-hub.service.age",
        "service.d/x.conf.age",
        "keys.env.age",
    ] {
        assert!(manifest.contains(path), "{path}: {manifest}");
    }
    assert!(files_with(&home.repository(), CANARY).is_empty());
    assert_eq!(main(&said)["sources"][0]["rows"]["sessions"], 78);
    // A unit that appears later.
    let dump = home.path().join(".pm2/dump.pm2");
    fs::create_dir(dump.parent().unwrap()).unwrap();
    fs::write(&dump, "[]").unwrap();
    let doctor = home.hapi_command(&["doctor", "--json"]).json();
    let findings = doctor["findings"].as_array().unwrap();
    let of = |subject: &str| findings.iter().find(|f| f["subject"] == subject).unwrap();
    assert!(
        of("service")["remedy"].to_string().contains("dump.pm2"),
        "{doctor}"
    );
    assert_eq!(of("hub")["verdict"], "ok", "{doctor}");
    let remedy = of("service")["remedy"].as_str().unwrap();
    let (_, lines) = remedy.split_once(".toml`:\n").unwrap();
    home.edit_profile(|text| text + "\n" + lines);
    let doctor = home.hapi_command(&["doctor", "--json"]).json();
    let findings = doctor["findings"].as_array().unwrap();
    let service = findings.iter().find(|f| f["subject"] == "service").unwrap();
    assert_eq!(service["verdict"], "ok", "{doctor}");
    drop(hub);
}

#[test]
fn two_hubs_of_one_user_are_told_and_one_in_a_container_is_said_to_be_there() {
    let home = Home::new();
    for suffix in ["", "-wal", "-shm"] {
        _ = fs::remove_file(home.hapi(&format!("hapi.db{suffix}")));
    }
    let make = |name: &str| {
        let folder = home.dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        sqlite3(&folder.join("hapi.db"), "CREATE TABLE t(n)");
        folder
    };
    let (one, two) = (make("one"), make("two"));
    let start = |folder: &Path| {
        let hub = Holder::start(
            &home,
            &folder.join("hapi.db"),
            &[("HAPI_HOME", folder.to_str().unwrap())],
        );
        fs::remove_file(home.dir.path().join("ready")).unwrap();
        hub
    };
    let hubs = (start(&one), start(&two));
    let said = home.init();
    assert_eq!(said.code, 2, "{said:?}");
    for folder in [&one, &two] {
        assert!(said.stderr.contains(folder.to_str().unwrap()), "{said:?}");
    }
    drop(hubs);
    // In a mount namespace of its own: on a volume that this machine has, and on one that it has not.
    let volume = make("volume");
    let ready = home.dir.path().join("there");
    let code = "import sqlite3,sys,time\nd=sqlite3.connect('/mnt/hapi.db')\nd.execute('CREATE TABLE IF NOT EXISTS t(n)')\nd.execute('SELECT * FROM t').fetchall()\nopen(sys.argv[1],'w').close()\ntime.sleep(120)";
    for (mount, found) in [
        (format!("mount --bind '{}' /mnt", volume.display()), true),
        ("mount -t tmpfs tmpfs /mnt".to_owned(), false),
    ] {
        let mut hub = std::process::Command::new("unshare")
            .args([
                "-m",
                "sh",
                "-c",
                &format!("{mount} && exec python3 -c \"$0\" \"$1\""),
                code,
            ])
            .arg(&ready)
            .env("HOME", home.path())
            .env("HAPI_HOME", "/mnt")
            .spawn()
            .unwrap();
        while !ready.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        fs::remove_file(&ready).unwrap();
        let said = home.hapi_command(&[
            "init",
            "--json",
            "--allow-same-disk",
            "--repository",
            home.repository().to_str().unwrap(),
        ]);
        hub.kill().unwrap();
        hub.wait().unwrap();
        // Another test's hub may run on this machine, too: then we are asked which one.
        let is_asked = said.code == 2 && said.stderr.contains("several hubs");
        if found {
            let all = format!("{}{}", said.stdout, said.stderr);
            assert!(all.contains(volume.to_str().unwrap()), "{said:?}");
            _ = fs::remove_file(home.profile());
        } else {
            assert!(
                is_asked || said.stderr.contains("in a container"),
                "{said:?}"
            );
        }
    }
}

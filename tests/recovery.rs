//! The recovery key and the recovery kit, through the real binary, and without it: what is printed
//! is what is run.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{CANARIES, Home, Said, feed, files_with, run, sqlite3};
use serde_json::Value;

fn keys(home: &Home) -> Vec<Value> {
    let said = home.restic(&["key", "list", "--json"]);
    said.json().as_array().cloned().unwrap()
}

/// The users that `restic key list` shows, in order.
fn users(home: &Home) -> Vec<String> {
    let mut users: Vec<_> = keys(home)
        .iter()
        .map(|key| key["userName"].as_str().unwrap_or_default().to_owned())
        .collect();
    users.sort();
    users
}

/// Stock restic with the password in this file.
fn restic_with(home: &Home, password_file: &Path, args: &[&str]) -> Said {
    let output = home
        .restic_command(args)
        .env("RESTIC_PASSWORD_FILE", password_file)
        .output()
        .unwrap();
    output.into()
}

fn init_with(home: &Home, more: &[&str]) -> Said {
    let repository = home.repository();
    let mut args = vec![
        "init",
        "--repository",
        repository.to_str().unwrap(),
        "--allow-same-disk",
        "--recipient",
        &home.recipient,
    ];
    args.extend(more);
    home.hapi_command(&args)
}

fn key_file(home: &Home) -> PathBuf {
    home.dir.path().join("recovery key")
}

fn kit(home: &Home, args: &[&str]) -> Said {
    let mut all = vec!["recovery-kit"];
    all.extend(args);
    home.hapi_command(&all)
}

/// The same with something on standard input.
fn kit_fed(home: &Home, args: &[&str], input: &str) -> Said {
    let mut child = home
        .command()
        .arg("recovery-kit")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap().into()
}

/// On a terminal of its own, which types `typed` when it is asked for a key. What the terminal
/// shows is the answer.
fn on_a_terminal(home: &Home, args: &[&str], typed: &str) -> Said {
    let script = r#"
import os, pty, sys
typed, argv = sys.argv[1], sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(argv[0], argv)
shown = b""
while True:
    try:
        part = os.read(terminal, 4096)
    except OSError:
        break
    if not part:
        break
    shown += part
    if typed and b"(not shown): " in shown:
        os.write(terminal, typed.encode() + b"\n")
        typed = ""
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let binary = home.command();
    let mut command = Command::new("python3");
    command.args(["-c", script, typed]);
    command.arg(binary.get_program()).args(args);
    command.env_clear();
    for (name, value) in binary.get_envs() {
        command.env(name, value.unwrap());
    }
    command.stdin(Stdio::null()).output().unwrap().into()
}

/// The one word of a text that has a recovery key's shape.
#[track_caller]
fn key_in(text: &str) -> String {
    let found: Vec<_> = text
        .split_whitespace()
        .filter(|word| word.len() == 47 && word.split('-').count() == 8)
        .collect();
    assert_eq!(found.len(), 1, "{text}");
    found[0].to_owned()
}

#[test]
fn init_writes_a_recovery_key_that_stock_restic_takes() {
    let home = Home::new();
    let file = key_file(&home);
    let said = init_with(&home, &["--recovery-key", file.to_str().unwrap()]).exits(0);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&file).unwrap();
    assert_eq!(key.trim(), key_in(&key));
    assert!(!(said.stdout.clone() + &said.stderr).contains(key.trim()));
    assert!(
        said.stderr.contains("would be lost together with"),
        "it is on the hub's disk: {}",
        said.stderr
    );
    restic_with(&home, &file, &["cat", "config"]).exits(0);
    restic_with(&home, &file, &["snapshots"]).exits(0);
    assert_eq!(users(&home), ["", "recovery"]);

    // Once more: nothing to do, and nothing changes.
    let again = init_with(&home, &["--recovery-key", file.to_str().unwrap()]).exits(0);
    assert!(again.stdout.contains("made earlier"), "{}", again.stdout);
    assert_eq!(fs::read_to_string(&file).unwrap(), key);
    assert_eq!(keys(&home).len(), 2);
    // A file that was asked for and is not there is no silent success.
    let other = home.dir.path().join("other");
    let again = init_with(&home, &["--recovery-key", other.to_str().unwrap()]).exits(0);
    assert!(again.stderr.contains("was not written"), "{}", again.stderr);
    assert!(!other.exists() && keys(&home).len() == 2);
}

#[test]
fn init_without_a_terminal_makes_none_and_says_so() {
    let home = Home::new();
    let said = home.init().exits(0);
    assert!(
        said.stdout.contains("NO recovery key") && said.stdout.contains("--new-key --key-file"),
        "{}",
        said.stdout
    );
    let json = init_with(&home, &["--json"]).exits(0).json();
    assert_eq!(json["recovery-key"]["made"], false);
    assert!(
        json["recovery-key"]["hint"]
            .as_str()
            .unwrap()
            .contains("--new-key")
    );
    assert_eq!(keys(&home).len(), 1);
}

#[test]
fn init_refuses_a_key_file_that_is_there_before_it_makes_anything() {
    let home = Home::new();
    fs::write(key_file(&home), "mine\n").unwrap();
    init_with(
        &home,
        &["--recovery-key", key_file(&home).to_str().unwrap()],
    )
    .exits(2);
    assert!(!home.repository().exists() && !home.profile().exists());
    assert_eq!(fs::read_to_string(key_file(&home)).unwrap(), "mine\n");
}

#[test]
fn on_a_terminal_a_key_is_shown_once_and_confirmed_by_hand() {
    let home = Home::new();
    let repository = home.repository();
    let init = [
        "init",
        "--repository",
        repository.to_str().unwrap(),
        "--allow-same-disk",
        "--recipient",
        &home.recipient,
    ];
    let said = on_a_terminal(&home, &init, "").exits(0);
    let key = key_in(&said.stdout);
    assert!(
        said.stdout.contains("not stored anywhere"),
        "{}",
        said.stdout
    );
    assert_eq!(files_with(home.dir.path(), &key), Vec::<PathBuf>::new());
    let by_hand = home.dir.path().join("by hand");
    fs::write(&by_hand, &key).unwrap();
    restic_with(&home, &by_hand, &["cat", "config"]).exits(0);
    fs::remove_file(&by_hand).unwrap();

    let again = on_a_terminal(&home, &init, "").exits(0);
    assert!(
        !again.stdout.contains("shown this once"),
        "{}",
        again.stdout
    );
    assert_eq!(keys(&home).len(), 2);

    // As a hand copies it.
    let typed = key.to_lowercase().replace('-', " ").replace('0', "o");
    let said = on_a_terminal(&home, &["recovery-kit", "--confirm"], &typed).exits(0);
    assert!(
        said.stdout.contains("opens the repository"),
        "{}",
        said.stdout
    );
    let shown = said.stdout.to_uppercase();
    assert!(
        !shown.contains(&key) && !shown.contains(&typed.to_uppercase()),
        "a key is never echoed: {shown}"
    );
    let mut wrong = key.clone().into_bytes();
    wrong[0] = if wrong[0] == b'7' { b'8' } else { b'7' };
    let wrong = String::from_utf8(wrong).unwrap();
    let said = on_a_terminal(&home, &["recovery-kit", "--confirm"], &wrong).exits(12);
    assert!(!said.stdout.contains(&wrong), "{}", said.stdout);

    // Another one: the first still opens, and how it goes is said.
    let said = on_a_terminal(&home, &["recovery-kit", "--new-key"], "").exits(0);
    let second = key_in(&said.stdout);
    assert!(second != key && said.stdout.contains("restic key remove"));
    assert_eq!(keys(&home).len(), 3);
    for key in [&key, &second] {
        kit_fed(&home, &["--confirm", "--key-file", "-"], key).exits(0);
    }
    let quiet = on_a_terminal(&home, &["-q", "recovery-kit", "--new-key"], "");
    quiet.exits(2);
    let json = on_a_terminal(&home, &["--json", "recovery-kit", "--new-key"], "");
    json.exits(2);
    assert_eq!(keys(&home).len(), 3);
}

#[test]
fn a_new_key_goes_into_no_pipe_and_over_no_file() {
    let home = Home::initialised();
    for args in [
        &["--new-key"][..],
        &["--new-key", "--json"],
        &["--new-key", "--key-file", "-"],
        &["--key-file", "x"],
        &["--confirm"],
    ] {
        let said = kit(&home, args).exits(2);
        assert!(
            said.stderr.contains("--key-file"),
            "{args:?}: {}",
            said.stderr
        );
    }
    let file = key_file(&home);
    fs::write(&file, "mine\n").unwrap();
    let args = ["--new-key", "--key-file", file.to_str().unwrap()];
    let said = kit(&home, &args).exits(2);
    assert!(said.stderr.contains("exists already"), "{}", said.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine\n");
    let nowhere = home.dir.path().join("no such folder/key");
    let args = ["--new-key", "--key-file", nowhere.to_str().unwrap()];
    kit(&home, &args).exits(1);
    assert_eq!(keys(&home).len(), 1, "nothing was added");
}

#[test]
fn a_key_that_cannot_be_added_leaves_no_file() {
    let home = Home::initialised();
    let folder = home.repository().join("keys");
    let folder = folder.as_os_str();
    run("mount", &["--bind".as_ref(), folder, folder]);
    run(
        "mount",
        &["-o".as_ref(), "remount,bind,ro".as_ref(), folder],
    );
    let file = key_file(&home);
    let said = kit(&home, &["--new-key", "--key-file", file.to_str().unwrap()]);
    run("umount", &[folder]);
    said.exits(1);
    assert!(!file.exists() && keys(&home).len() == 1);
}

#[test]
fn only_a_recovery_key_is_confirmed_and_the_proof_is_noted() {
    let home = Home::initialised();
    let file = key_file(&home);
    let made = kit(
        &home,
        &["--json", "--new-key", "--key-file", file.to_str().unwrap()],
    )
    .exits(0);
    let key = fs::read_to_string(&file).unwrap();
    assert!(!made.stdout.contains(key.trim()) && !made.stderr.contains(key.trim()));
    let id = made.json()["key-id"].as_str().unwrap().to_owned();
    let note = home.state().join("recovery-key.json");

    let password = fs::read_to_string(home.password()).unwrap();
    let said = kit_fed(&home, &["--confirm", "--key-file", "-"], &password).exits(12);
    assert!(
        said.stderr.contains("lost with this disk"),
        "{}",
        said.stderr
    );
    let said = kit_fed(&home, &["--confirm", "--key-file", "-"], "wrong\n").exits(12);
    assert!(said.stderr.contains("does not open"), "{}", said.stderr);
    kit_fed(&home, &["--confirm", "--key-file", "-"], "\n").exits(2);
    assert!(!note.exists());

    let confirm = ["--confirm", "--key-file", file.to_str().unwrap()];
    let said = kit(&home, &confirm).exits(0);
    assert!(said.stdout.contains(&id[..8]), "{}", said.stdout);
    assert!(!said.stdout.contains(key.trim()));
    let noted: Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
    assert_eq!(noted["version"], 1);
    assert_eq!(noted["key-id"], id.as_str());
    assert!(noted["confirmed"].as_str().unwrap().contains('T'));
    assert_eq!(fs::metadata(&note).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        kit(&home, &["--json"]).json()["confirmed"]["key-id"],
        id.as_str()
    );

    // Of another repository it is no proof.
    let other = "0".repeat(64);
    let ours = noted["repository"].as_str().unwrap().to_owned();
    home.edit_profile(|text| text.replace(&ours, &other));
    let said = kit(&home, &confirm).exits(1);
    assert!(said.stderr.contains("has the id"), "{}", said.stderr);
    kit(&home, &[]).exits(1);
}

#[test]
fn with_the_password_lost_the_recovery_key_is_the_password() {
    let home = Home::new();
    let file = key_file(&home);
    init_with(&home, &["--recovery-key", file.to_str().unwrap()]).exits(0);
    home.snapshot().exits(0);
    fs::write(home.password(), "gone\n").unwrap();
    home.snapshot().exits(12);
    kit(&home, &[]).exits(12);
    fs::remove_file(home.password()).unwrap();
    let page = kit(&home, &[]).exits(0);
    assert!(page.stdout.contains("not checked"), "{}", page.stdout);
    let confirm = ["--confirm", "--key-file", file.to_str().unwrap()];
    kit(&home, &confirm).exits(0);
    fs::copy(&file, home.password()).unwrap();
    fs::set_permissions(home.password(), fs::Permissions::from_mode(0o600)).unwrap();
    home.snapshot().exits(0);
    assert_eq!(home.restic_snapshots().len(), 3);
    // And now it is the password that is on this machine.
    kit(&home, &confirm).exits(12);
}

/// Values planted where a careless page would pick them up.
const PLANTED: [&str; 5] = [
    CANARIES[0],
    CANARIES[1],
    "canary-cli-token-77aa",
    "canary-password-88bb",
    "canary-of-the-server-99cc",
];

#[test]
fn the_kit_holds_no_secret_even_with_the_repository_out_of_reach() {
    let home = Home::new();
    fs::create_dir_all(home.password().parent().unwrap()).unwrap();
    fs::write(home.password(), format!("{}\n", PLANTED[3])).unwrap();
    fs::set_permissions(home.password(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(
        home.hapi("settings.json"),
        format!("{{\"cliToken\":\"{}\"}}", PLANTED[2]),
    )
    .unwrap();
    let identity = home.dir.path().join("identity.txt");
    let identity = fs::read_to_string(identity).unwrap();
    let identity = identity.lines().last().unwrap().to_owned();
    assert!(identity.starts_with("AGE-SECRET-KEY-"));
    home.init().exits(0);
    let file = key_file(&home);
    kit(&home, &["--new-key", "--key-file", file.to_str().unwrap()]).exits(0);
    kit(&home, &["--confirm", "--key-file", file.to_str().unwrap()]).exits(0);
    home.snapshot().exits(0);
    let key = fs::read_to_string(&file).unwrap();
    let mut planted: Vec<&str> = PLANTED.to_vec();
    planted.extend([identity.as_str(), key.trim(), "operator-of-the-server"]);

    let page = home.dir.path().join("kit.md");
    let mut told = vec![
        kit(&home, &[]).exits(0),
        kit(&home, &["--json"]).exits(0),
        kit(&home, &["--output", page.to_str().unwrap()]).exits(0),
    ];
    assert_eq!(fs::metadata(&page).unwrap().mode() & 0o777, 0o600);
    // A dead server, with a user and a password in its location.
    let location = format!(
        "rest:http://operator-of-the-server:{}@127.0.0.1:1/x",
        PLANTED[4]
    );
    home.edit_profile(|text| text.replace(home.repository().to_str().unwrap(), &location));
    assert!(
        fs::read_to_string(home.profile())
            .unwrap()
            .contains(&location)
    );
    let asked = std::time::Instant::now();
    let away = kit(&home, &["--json"]).exits(0);
    assert!(
        asked.elapsed().as_secs() < 20,
        "a page does not wait for it"
    );
    let facts = away.json();
    assert_eq!(facts["repository"]["checked"], false);
    assert_eq!(facts["repository"]["needs-credentials"], true);
    let markdown = facts["markdown"].as_str().unwrap().to_owned();
    let named = facts["repository"]["id"].as_str().unwrap();
    assert_eq!(named.len(), 64, "the profile's id serves");
    assert!(markdown.contains(named) && markdown.contains("was not checked"));
    assert!(
        markdown.contains("USER:PASSWORD@127.0.0.1:1/x"),
        "{markdown}"
    );
    assert!(away.stderr.contains("was not checked"), "{}", away.stderr);
    told.push(away);
    told.push(Said {
        code: 0,
        stdout: markdown,
        stderr: fs::read_to_string(&page).unwrap(),
    });
    for needle in planted {
        for said in &told {
            assert!(
                !said.stdout.contains(needle) && !said.stderr.contains(needle),
                "{needle} in {said:?}"
            );
        }
        assert_eq!(files_with(&home.state(), needle), Vec::<PathBuf>::new());
    }
}

/// The fenced blocks of the page between two headings, as one script.
fn commands(page: &str, from: &str, to: &str) -> String {
    let start = page.find(from).unwrap();
    let end = page.find(to).unwrap();
    let mut script = String::new();
    let mut within = false;
    for line in page[start..end].lines() {
        match line {
            "```sh" => within = true,
            "```" => within = false,
            _ if within => script += &format!("{line}\n"),
            _ => {}
        }
    }
    script
}

/// A program that only notes how it was called.
fn pretend(folder: &Path, name: &str) {
    let path = folder.join(name);
    let script = format!(
        "#!/bin/sh\necho \"{name} $*\" >> {:?}\n",
        folder.join("calls")
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_printed_commands_get_everything_back() {
    let home = Home::new();
    // A quote and a space in a path are what a page that is typed off must survive.
    let odd = home.path().join("it's a folder");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("notes.txt"), "odd\n").unwrap();
    home.init().exits(0);
    home.edit_profile(|text| {
        format!("{text}\n[[source]]\nname = \"odd\"\npath = {odd:?}\nkind = \"dir\"\n\n[[source]]\nname = \"more\"\npath = \"~/more/*.db\"\nkind = \"sqlite\"\n")
    });
    let more = home.path().join("more");
    fs::create_dir(&more).unwrap();
    sqlite3(
        &more.join("a b.db"),
        "CREATE TABLE t(x); INSERT INTO t VALUES(5)",
    );
    home.hapi_command(&["snapshot", "--all"]).exits(0);
    let sessions = sqlite3(&home.database(), "SELECT count(*) FROM sessions");
    let env = fs::read(home.hapi("hub.env")).unwrap();
    let owner = fs::metadata(home.database()).unwrap().mode();

    // The worst that can lie there: another database, with a WAL full of what came after.
    let live = home.database();
    let wal = [live.display().to_string(), "-wal".into()].concat();
    let lose = "import os,sqlite3,sys\ndb=sqlite3.connect(sys.argv[1])\ndb.execute('pragma journal_mode=wal')\ndb.execute('pragma wal_autocheckpoint=0')\ndb.execute('delete from sessions')\ndb.commit()\nos._exit(0)\n";
    run("python3", &["-c".as_ref(), lose.as_ref(), live.as_os_str()]);
    assert!(fs::metadata(&wal).unwrap().len() > 0);
    fs::write(home.hapi("hub.env"), "overwritten\n").unwrap();
    fs::remove_dir_all(&odd).unwrap();
    fs::remove_dir_all(&more).unwrap();
    fs::remove_dir_all(home.path().join("voice-test-output")).unwrap();

    let page = kit(&home, &[]).exits(0).stdout;
    let script = commands(
        &page,
        "## With restic, age and sqlite3",
        "## With rustic-hapi",
    );
    let identity = home.dir.path().join("identity.txt");
    let script = script.replace("~/hapi-identity.txt", identity.to_str().unwrap());
    let stubs = home.dir.path().join("stubs");
    fs::create_dir(&stubs).unwrap();
    for name in ["apt-get", "systemctl"] {
        pretend(&stubs, name);
    }
    let output = Command::new("bash")
        .args(["-e", "-u", "-c", &script])
        .env_clear()
        .env(
            "PATH",
            format!("{}:/usr/local/bin:/usr/bin:/bin", stubs.display()),
        )
        .env("HOME", home.dir.path())
        .env("TMPDIR", home.dir.path())
        .output()
        .unwrap();
    let said = Said::from(output).exits(0);
    assert!(
        said.stdout.contains(&format!("ok\n{sessions}\n")),
        "{}",
        said.stdout
    );
    let calls = fs::read_to_string(stubs.join("calls")).unwrap();
    assert!(
        calls.contains("systemctl stop hapi.service\nsystemctl start hapi.service\n"),
        "{calls}"
    );
    assert_eq!(sqlite3(&live, "SELECT count(*) FROM sessions"), sessions);
    assert_eq!(fs::metadata(&live).unwrap().mode(), owner);
    assert_eq!(fs::read(home.hapi("hub.env")).unwrap(), env);
    assert_eq!(fs::read_to_string(odd.join("notes.txt")).unwrap(), "odd\n");
    assert_eq!(sqlite3(&more.join("a b.db"), "SELECT x FROM t"), "5");
    assert!(home.path().join("voice-test-output/results.json").exists());
    let aside: Vec<_> = fs::read_dir(home.hapi(""))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(".aside-"))
        .map(|entry| entry.path())
        .collect();
    assert_eq!(aside.len(), 1);
    assert!(aside[0].join("hapi.db").exists() && aside[0].join("hapi.db-wal").exists());
    // Nothing in plain is left, and nothing went astray.
    assert!(
        !fs::read_dir(home.dir.path())
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("tmp."))
    );
    assert!(!page.contains("--target /"), "{page}");
}

#[test]
fn what_is_pasted_never_starts_a_hub_without_its_database() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let page = kit(&home, &[]).exits(0).stdout;
    let stock = commands(
        &page,
        "## With restic, age and sqlite3",
        "## With rustic-hapi",
    );
    let begin = stock.find("HUB=").unwrap();
    let end = stock.find("rm -rf").unwrap();
    let stubs = home.dir.path().join("stubs");
    fs::create_dir(&stubs).unwrap();
    pretend(&stubs, "systemctl");
    let before = fs::read(home.database()).unwrap();
    // A restore that failed, or another session: `scratch` is empty, or not set at all.
    for scratch in ["", "scratch=/nonexistent\n"] {
        let input = format!(
            "PATH={}:$PATH\n{scratch}{}",
            stubs.display(),
            &stock[begin..end]
        );
        let output = feed("bash", &[OsStr::new("-s")], input.as_bytes());
        assert!(!output.status.success());
    }
    let calls = fs::read_to_string(stubs.join("calls")).unwrap();
    assert!(!calls.contains("start"), "{calls}");
    assert_eq!(fs::read(home.database()).unwrap(), before);
}

//! Bad input gets a clear error, a remedy, the exit code of the table, and costs nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::common::{BindFs, Home, Said, Tmpfs, run, sqlite3};

/// The run must end like this, say these things, and leave no new snapshot.
#[track_caller]
fn refused(home: &Home, said: Said, code: i32, told: &[&str]) {
    let said = said.exits(code);
    for word in told {
        assert!(
            said.stderr.contains(word),
            "`{word}` is not in: {}",
            said.stderr
        );
    }
    let json: serde_json::Value = home.hapi_command(&["profile", "check", "--json"]).json();
    assert!(json["version"].is_number());
}

fn with_profile(edit: impl FnOnce(String) -> String) -> (Home, Said) {
    let home = Home::initialised();
    home.edit_profile(edit);
    let said = home.hapi_command(&["snapshot"]);
    (home, said)
}

fn appended(lines: &str) -> (Home, Said) {
    with_profile(|text| format!("{text}\n{lines}\n"))
}

#[test]
fn no_profile_and_no_destination() {
    let home = Home::new();
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        2,
        &["no profile", "hapi.toml", "hint: `rustic-hapi init"],
    );
    refused(
        &home,
        home.hapi_command(&["init"]),
        2,
        &["no destination", "--repository"],
    );
    assert!(!home.profile().exists());
}

#[test]
fn unknown_key_is_named_with_its_line() {
    let (home, said) = appended("[retention]\nkeep-dayly = 20");
    refused(&home, said, 2, &["keep-dayly", "line ", "unknown field"]);
}

#[test]
fn wrong_type() {
    let (home, said) = appended("[retention]\nkeep-daily = \"many\"");
    refused(&home, said, 2, &["keep-daily", "line "]);
}

#[test]
fn relative_path() {
    let (home, said) = appended("[[source]]\nname = \"x\"\npath = \"notes.md\"\nkind = \"file\"");
    refused(
        &home,
        said,
        2,
        &["`notes.md` is not an absolute path", "source `x`", "hint:"],
    );
}

#[test]
fn duplicate_source() {
    let row = "[[source]]\nname = \"x\"\npath = \"~/x\"\nkind = \"file\"\n";
    let (home, said) = appended(&format!("{row}{row}"));
    refused(&home, said, 2, &["source `x`", "used twice"]);
}

#[test]
fn duplicate_series() {
    let (home, said) = appended("[[series]]\nname = \"x\"\n[[series]]\nname = \"x\"\n");
    refused(&home, said, 2, &["series `x`", "used twice"]);
}

#[test]
fn secret_without_recipients() {
    let home = Home::initialised();
    let recipient = home.recipient.clone();
    home.edit_profile(|text| text.replace(&format!("\"{recipient}\""), ""));
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        2,
        &["recipients", "age-keygen"],
    );
}

#[test]
fn bad_recipient() {
    let home = Home::initialised();
    let recipient = home.recipient.clone();
    home.edit_profile(|text| text.replace(&recipient, "age1nonsense"));
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        2,
        &["age1nonsense", "recipients"],
    );
}

#[test]
fn an_identity_in_place_of_a_recipient_is_not_repeated() {
    let home = Home::initialised();
    let identity = fs::read_to_string(home.dir.path().join("identity.txt")).unwrap();
    let secret = identity
        .lines()
        .find(|l| l.starts_with("AGE-SECRET-KEY-"))
        .unwrap()
        .to_owned();
    let recipient = home.recipient.clone();
    home.edit_profile(|text| text.replace(&recipient, &secret));
    let said = home.hapi_command(&["snapshot"]).exits(2);
    assert!(!said.stderr.contains(&secret), "{}", said.stderr);
}

#[test]
fn sensitivity_secrets_on_another_kind() {
    let (home, said) = appended(
        "[[source]]\nname = \"x\"\npath = \"~/x\"\nkind = \"file\"\nsensitivity = \"secrets\"",
    );
    refused(&home, said, 2, &["source `x`", "kind = \"secret\""]);
}

#[test]
fn keep_daily_below_the_floor() {
    let (home, said) = appended("[retention]\nkeep-daily = 7");
    refused(&home, said, 2, &["keep-daily", "14"]);
}

#[test]
fn password_file_that_others_can_read_is_empty_or_missing() {
    let home = Home::initialised();
    let set =
        |mode| fs::set_permissions(home.password(), fs::Permissions::from_mode(mode)).unwrap();
    set(0o644);
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        2,
        &["can be read by others", "chmod 600"],
    );
    set(0o600);
    fs::write(home.password(), "\n").unwrap();
    refused(&home, home.hapi_command(&["snapshot"]), 2, &["is empty"]);
    fs::write(home.password(), "one\ntwo\n").unwrap();
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        2,
        &["more than one line"],
    );
    fs::remove_file(home.password()).unwrap();
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        2,
        &["cannot be read", "hint:"],
    );
}

#[test]
fn wrong_password() {
    let home = Home::initialised();
    fs::write(home.password(), "something else\n").unwrap();
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        12,
        &["does not open"],
    );
}

#[test]
fn no_repository_and_an_unmounted_one() {
    let home = Home::initialised();
    fs::rename(home.repository(), home.dir.path().join("elsewhere")).unwrap();
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        10,
        &["no repository", "mounted"],
    );
    fs::create_dir(home.repository()).unwrap();
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        10,
        &["empty", "mounted"],
    );
    // Not even init makes one where the profile names one that is not there.
    let said = home.hapi_command(&["init"]);
    refused(&home, said, 10, &["remove `id`"]);
    assert_eq!(fs::read_dir(home.repository()).unwrap().count(), 0);
}

#[test]
fn another_repository_than_the_pinned_one() {
    let home = Home::initialised();
    fs::remove_dir_all(home.repository()).unwrap();
    let mut restic = home.restic_command(&["init"]);
    assert!(restic.output().unwrap().status.success());
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        1,
        &["has the id", "the profile names"],
    );
    assert!(home.restic_snapshots().is_empty());
}

#[test]
fn a_folder_that_is_something_else() {
    let home = Home::new();
    fs::create_dir(home.repository()).unwrap();
    fs::write(home.repository().join("holiday.jpg"), "x").unwrap();
    refused(
        &home,
        home.init(),
        1,
        &["not a restic repository", "nothing was changed"],
    );
    assert_eq!(fs::read_dir(home.repository()).unwrap().count(), 1);
}

#[test]
fn the_same_disk_is_refused_unless_allowed() {
    let home = Home::new();
    let said = home.hapi_command(&["init", "--repository", home.repository().to_str().unwrap()]);
    refused(&home, said, 1, &["same disk", "allow-same-disk"]);
    assert!(!home.repository().exists() && !home.profile().exists() && !home.password().exists());
}

#[test]
fn home_unset() {
    let home = Home::initialised();
    let output = home
        .command()
        .env_remove("HOME")
        .arg("snapshot")
        .output()
        .unwrap();
    let said = Said::from(output).exits(2);
    assert!(
        said.stderr.contains("HOME is not set") && said.stderr.contains("--home"),
        "{}",
        said.stderr
    );
}

#[test]
fn home_relative() {
    let home = Home::initialised();
    let mut command = home.command();
    let output = command.env("HOME", "home").arg("snapshot").output();
    let said = Said::from(output.unwrap()).exits(2);
    let fact = "HOME is `home`, which is not an absolute path";
    assert!(said.stderr.contains(fact), "{}", said.stderr);
    command.args(["--home", home.path().to_str().unwrap()]);
    Said::from(command.output().unwrap()).exits(0);
}

#[test]
fn the_state_folder_cannot_be_used() {
    let home = Home::initialised();
    fs::remove_dir_all(home.path().join(".local")).unwrap();
    fs::write(home.path().join(".local"), "in the way").unwrap();
    refused(
        &home,
        home.hapi_command(&["snapshot"]),
        1,
        &["cannot use", ".local"],
    );
    assert!(home.restic_snapshots().is_empty());
}

#[test]
fn sources_that_cannot_be_taken_are_named_with_the_reason() {
    let home = Home::initialised();
    // Not a database.
    fs::write(
        home.hapi("text.db"),
        "this is not a database, and long enough to be seen as none of it",
    )
    .unwrap();
    // A folder where a file should be, and the other way round.
    fs::create_dir(home.hapi("folder.json")).unwrap();
    fs::write(home.hapi("file.dir"), "x").unwrap();
    run("mkfifo", &[home.hapi("pipe").as_os_str()]);
    let profile = home.write_profile(
        "odd",
        "[[source]]\nname = \"text\"\npath = \"~/.hapi/text.db\"\nkind = \"sqlite\"\n\
         [[source]]\nname = \"folder\"\npath = \"~/.hapi/folder.json\"\nkind = \"file\"\n\
         [[source]]\nname = \"file\"\npath = \"~/.hapi/file.dir\"\nkind = \"dir\"\n\
         [[source]]\nname = \"pipe\"\npath = \"~/.hapi/pipe\"\nkind = \"file\"\n\
         [[source]]\nname = \"missing\"\npath = \"~/.hapi/missing\"\nkind = \"file\"\n\
         [[source]]\nname = \"status\"\npath = \"~/.hapi/driver-status.json\"\nkind = \"file\"\n",
    );
    let said = home
        .hapi_command(&["--profile", profile.to_str().unwrap(), "snapshot"])
        .exits(3);
    for told in [
        "text.db",
        "not a SQLite database",
        "folder.json",
        "file.dir",
        "pipe",
        "missing",
        "does not exist",
    ] {
        assert!(
            said.stderr.contains(told),
            "`{told}` is not in: {}",
            said.stderr
        );
    }
    assert_eq!(
        home.restic_snapshots().pop().unwrap()["tags"],
        serde_json::json!(["odd", "partial"])
    );
}

#[test]
fn a_locked_database_is_told_from_a_broken_one() {
    let home = Home::initialised();
    sqlite3(&home.database(), "PRAGMA journal_mode=DELETE");
    let script = "import sqlite3,sys,time\ndb=sqlite3.connect(sys.argv[1],isolation_level=None)\ndb.execute('BEGIN EXCLUSIVE')\nprint('held',flush=True)\ntime.sleep(60)";
    let mut holder = Command::new("python3")
        .args(["-c", script])
        .arg(home.database())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0u8; 4];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut word).unwrap();
    let said = home.hapi_command(&["snapshot"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    refused(&home, said, 3, &["hapi.db", "locked"]);
}

#[test]
fn a_destination_that_is_full_or_read_only() {
    let home = Home::new();
    let disk = Tmpfs::mount(home.repository(), "size=900k,mode=700");
    home.init().exits(0);
    // The small weekly series may fit; the database does not, again and again.
    home.hapi_command(&["snapshot"]);
    let full = home.hapi_command(&["snapshot"]);
    refused(&home, full, 1, &["No space left", "hint: make room"]);
    disk.remount("size=64m");
    home.restic(&["check"]);
    home.hapi_command(&["snapshot"]).exits(0);
    disk.remount("ro");
    let read_only = home.hapi_command(&["snapshot"]);
    refused(
        &home,
        read_only,
        1,
        &["Read-only file system", "hint: mount"],
    );
    disk.remount("rw");
    home.hapi_command(&["snapshot"]).exits(0);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn a_full_staging_folder() {
    let home = Home::initialised();
    let staging = home.dir.path().join("small");
    let disk = Tmpfs::mount(staging.clone(), "size=200k,mode=700");
    home.edit_profile(|text| format!("staging = {staging:?}\n{text}"));
    let said = home.hapi_command(&["snapshot"]);
    assert_ne!(said.code, 0);
    assert!(
        said.stderr.contains("bytes free") || said.stderr.contains("No space"),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("`staging` in the profile"),
        "{}",
        said.stderr
    );
    disk.remount("size=64m");
    home.hapi_command(&["snapshot"]).exits(0);
}

#[test]
fn a_repository_that_lost_its_config_is_not_an_empty_folder() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    fs::rename(
        home.repository().join("config"),
        home.dir.path().join("config"),
    )
    .unwrap();
    let said = home.hapi_command(&["snapshot"]);
    refused(
        &home,
        said,
        1,
        &["`config` is missing", "put `config` back"],
    );
    home.edit_profile(|text| {
        text.lines()
            .filter(|l| !l.starts_with("id ="))
            .collect::<Vec<_>>()
            .join("\n")
    });
    refused(
        &home,
        home.hapi_command(&["init"]),
        1,
        &["`config` is missing"],
    );
    fs::rename(
        home.dir.path().join("config"),
        home.repository().join("config"),
    )
    .unwrap();
    home.hapi_command(&["snapshot"]).exits(0);
}

#[test]
fn a_repository_with_a_part_torn_or_gone_says_what_to_put_back() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let aside = home.dir.path().join("aside");
    for part in ["keys", "snapshots", "config"] {
        let place = home.repository().join(part);
        fs::rename(&place, &aside).unwrap();
        if part == "config" {
            fs::write(&place, "").unwrap();
        }
        for command in ["snapshots", "snapshot"] {
            let said = home.hapi_command(&[command]);
            refused(
                &home,
                said,
                1,
                &[part, "hint: ", "put it back from another copy"],
            );
        }
        _ = fs::remove_file(&place);
        fs::rename(&aside, &place).unwrap();
    }
    home.snapshot().exits(0);
}

#[test]
fn an_init_that_was_cut_off_leaves_no_second_key() {
    let home = Home::initialised();
    fs::remove_file(home.repository().join("config")).unwrap();
    fs::remove_file(home.profile()).unwrap();
    home.init().exits(0);
    assert_eq!(
        fs::read_dir(home.repository().join("keys"))
            .unwrap()
            .count(),
        1
    );
    home.snapshot().exits(0);
    home.restic(&["check"]);
}

#[test]
fn an_unmounted_disk_is_told_as_such_and_not_as_the_same_disk() {
    let home = Home::new();
    let disk = BindFs::mount(&home.dir.path().join("disk"), home.repository(), &[]);
    let repository = home.repository();
    let recipient = home.recipient.clone();
    let args = [
        "init",
        "--repository",
        repository.to_str().unwrap(),
        "--recipient",
        &recipient,
    ];
    home.hapi_command(&args).exits(0);
    home.hapi_command(&["snapshot"]).exits(0);
    drop(disk);
    let said = home.hapi_command(&["snapshot"]);
    refused(&home, said, 10, &["no repository", "mounted"]);
}

#[test]
fn usage_errors_are_one_document_with_json() {
    let home = Home::new();
    let said = home
        .hapi_command(&["snapshot", "--json", "--bogus"])
        .exits(2);
    assert_eq!(said.json()["exit"], 2);
    assert!(said.json()["error"].as_str().unwrap().contains("--bogus"));
}

#[test]
fn init_does_not_ignore_what_a_profile_does_not_say() {
    let home = Home::initialised();
    let said = home.hapi_command(&["init", "--hapi-home", "/srv/hapi"]);
    refused(
        &home,
        said,
        2,
        &["--hapi-home", "would not change it", "hint:"],
    );
}

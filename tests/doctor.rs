//! `doctor`: a healthy home has nothing to say, and each fault is found, with a remedy that is real.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::common::{BindFs, BusyHub, CANARIES, Home, Said, Tmpfs, run};
use serde_json::Value;

/// A crontab program of the test's own: the real one is the machine's, and others use it.
const CRONTAB: &str = r#"#!/bin/sh
case "$1" in
-l) cat "$HOME/crontab" 2>/dev/null || { echo "no crontab for t" >&2; exit 1; } ;;
-r) rm -f "$HOME/crontab" ;;
-) cat > "$HOME/crontab" ;;
esac
"#;

/// The `PATH` with that program.
pub fn with_crontab(home: &Home) -> String {
    let bin = home.dir.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("crontab"), CRONTAB).unwrap();
    fs::set_permissions(bin.join("crontab"), fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display())
}

fn doctor(home: &Home, args: &[&str]) -> Said {
    let said: Said = home
        .command()
        .env("PATH", with_crontab(home))
        .args(args)
        .output()
        .unwrap()
        .into();
    for canary in CANARIES.iter().chain(&["AGE-SECRET-KEY-1"]) {
        assert!(!said.stdout.contains(canary), "{}", said.stdout);
        assert!(!said.stderr.contains(canary), "{}", said.stderr);
    }
    said
}

fn look(home: &Home) -> Value {
    doctor(home, &["doctor", "--json"]).json()
}

#[track_caller]
fn finding(json: &Value, subject: &str) -> Value {
    let all = json["findings"].as_array().unwrap();
    all.iter()
        .find(|f| f["subject"] == subject)
        .unwrap_or_else(|| panic!("nothing of `{subject}`: {json:#}"))
        .clone()
}

/// The verdict on a subject, and words that stand in its fact and its remedy.
#[track_caller]
fn says(json: &Value, subject: &str, verdict: &str, fact: &str, remedy: &str) {
    let found = finding(json, subject);
    assert_eq!(found["verdict"], verdict, "{found:#}");
    assert!(found["fact"].as_str().unwrap().contains(fact), "{found:#}");
    let told = found["remedy"].as_str().unwrap_or_default();
    assert!(told.contains(remedy), "{found:#}");
    assert_eq!(verdict == "ok", found["remedy"].is_null(), "{found:#}");
    if verdict == "fail" {
        assert_eq!(json["exit"], 1);
    }
}

fn second_recipient(home: &Home) -> String {
    let key = home.dir.path().join("second.txt");
    run("age-keygen", &["-o".as_ref(), key.as_os_str()]);
    let said = run("age-keygen", &["-y".as_ref(), key.as_os_str()]);
    said.stdout.trim().to_owned()
}

#[test]
fn a_healthy_home_has_nothing_to_say() {
    let home = Home::new();
    let behind = home.dir.path().join("behind");
    let _disk = BindFs::mount(&behind, home.dir.path().join("disk"), &[]);
    let repository = home.dir.path().join("disk/repository");
    let second = second_recipient(&home);
    let key = home.dir.path().join("recovery.txt");
    let (repository, key) = (repository.to_str().unwrap(), key.to_str().unwrap());
    let recipients = ["--recipient", &home.recipient, "--recipient", &second];
    let init = ["init", "--repository", repository, "--recovery-key", key];
    doctor(&home, &[&init[..], &recipients[..]].concat()).exits(0);
    doctor(&home, &["schedule", "--install", "--cron"]).written();
    doctor(&home, &["snapshot"]).exits(0);
    doctor(&home, &["drill"]).exits(0);
    let confirm = ["recovery-kit", "--confirm", "--key-file", key];
    doctor(&home, &confirm).exits(0);
    // Its own hub is open: what others run on this machine is no fault then.
    let _hub = BusyHub::start(&home.database());

    let json = doctor(&home, &["doctor", "--json"]).exits(0).json();
    // Whether a cron runs on the machine of the test is not the test's to say.
    let odd: Vec<_> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|f| f["verdict"] != "ok" && f["subject"] != "schedule")
        .collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert_ne!(finding(&json, "schedule")["verdict"], "fail");
    let text = doctor(&home, &["doctor", "-v"]).exits(0).stdout;
    assert!(text.contains("ok   hub: "), "{text}");
    let text = doctor(&home, &["doctor"]).exits(0).stdout;
    assert!(text.starts_with("0 failed, "), "{text}");
    assert!(!text.contains("ok   "), "{text}");
    let quiet = doctor(&home, &["-q", "doctor"]).exits(0).stdout;
    assert!(!quiet.contains("ok   "), "{quiet}");

    // The same again with cron's environment, and nothing of it differs.
    let said = doctor(&home, &["doctor", "--as-cron"]).exits(0).stdout;
    assert!(!said.contains("as cron: "), "{said}");
    assert!(
        said.contains("with cron's environment: no difference"),
        "{said}"
    );
    let json = doctor(&home, &["doctor", "--as-cron", "--json"]).json();
    says(&json, "as cron: repository", "ok", "opens", "");
}

#[test]
fn what_the_sources_lack_is_told() {
    let home = Home::initialised();
    fs::remove_file(home.hapi("hub.env")).unwrap();
    fs::create_dir(home.hapi("new-in-this-version")).unwrap();
    let new = fs::File::create(home.hapi("new-in-this-version/file")).unwrap();
    new.set_len(17 << 20).unwrap();
    fs::write(home.hapi("hapi.db.bak-2026"), "").unwrap();
    let json = look(&home);
    says(&json, "source hub.env", "fail", "does not exist", "profile");
    says(&json, "source hapi.db", "ok", "hapi.db", "");
    says(&json, "source jwt-secret.json", "ok", "optional", "");
    let new = "new-in-this-version";
    says(&json, "hapi-home", "warn", new, "[[source]]");
    assert!(
        !finding(&json, "hapi-home")["fact"]
            .to_string()
            .contains(".bak")
    );
    says(&json, "recipients", "warn", "one key", "age-keygen");
    says(
        &json,
        "schedule",
        "fail",
        "nothing runs",
        "schedule --install",
    );
    says(
        &json,
        "other disk",
        "warn",
        "is lost together with",
        "[[copy]]",
    );
    says(
        &json,
        "snapshots",
        "warn",
        "none yet",
        "rustic-hapi snapshot",
    );
    says(&json, "recovery key", "warn", "there is none", "--new-key");
    says(
        &json,
        "drill",
        "warn",
        "never run on this machine",
        "rustic-hapi drill",
    );
    fs::write(
        home.database(),
        "this is no database, whatever its name says",
    )
    .unwrap();
    says(
        &look(&home),
        "source hapi.db",
        "fail",
        "not a SQLite database",
        "",
    );
}

#[test]
fn what_another_user_may_not_read_is_told() {
    let home = Home::initialised();
    const USER: u32 = 54_321;
    fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    run(
        "chown",
        &[
            "-R".as_ref(),
            "54321:54321".as_ref(),
            home.path().as_os_str(),
        ],
    );
    chown(home.hapi("hub.env"), Some(0), Some(0)).unwrap();
    let said: Said = Command::new("setpriv")
        .args([&format!("--reuid={USER}"), &format!("--regid={USER}")])
        .args(["--clear-groups", env!("CARGO_BIN_EXE_rustic-hapi")])
        .args(["doctor", "--json"])
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap()
        .into();
    let json = said.json();
    says(&json, "source hub.env", "fail", "hub.env", "belongs to");
    says(&json, "source hapi.db", "ok", "hapi.db", "");
}

#[test]
fn a_hub_with_another_database_open_is_told() {
    let home = Home::initialised();
    let moved = home.path().join("moved");
    fs::create_dir_all(&moved).unwrap();
    fs::copy(home.database(), moved.join("hapi.db")).unwrap();
    let _hub = BusyHub::start(&moved.join("hapi.db"));
    says(
        &look(&home),
        "hub",
        "fail",
        "not in the profile",
        "hapi-home = ",
    );
}

#[test]
fn a_repository_that_does_not_open_is_told_and_the_rest_is_not_left_out() {
    let home = Home::initialised();
    let password = fs::read_to_string(home.password()).unwrap();
    fs::write(home.password(), "another\n").unwrap();
    let json = look(&home);
    says(&json, "repository", "fail", "does not open", "password");
    for subject in [
        "repository id",
        "room",
        "hub id",
        "chunk size",
        "recovery key",
    ] {
        says(&json, subject, "warn", "did not open", "again");
        assert_eq!(finding(&json, subject)["skipped"], true);
    }
    fs::write(home.password(), password).unwrap();
    home.edit_profile(|text| {
        let at = text.find("\nid = \"").unwrap() + 7;
        format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..])
    });
    let json = look(&home);
    says(&json, "repository", "ok", "opens", "");
    says(&json, "repository id", "fail", "000000", "id");
    home.edit_profile(|text| text.replace("\nid = \"0", "\n# \"0"));
    says(&look(&home), "repository id", "warn", "has none", "id = ");
    home.edit_profile(|text| text.replace("allow-same-disk = true", ""));
    says(
        &look(&home),
        "other disk",
        "fail",
        "same disk",
        "allow-same-disk",
    );
}

#[test]
fn no_room_is_told() {
    let home = Home::new();
    let _disk = Tmpfs::mount(home.repository(), "size=20m,mode=0700");
    home.init().exits(0);
    let _staging = Tmpfs::mount(home.dir.path().join("staging"), "size=1m,mode=0700");
    let staging = home.dir.path().join("staging");
    home.edit_profile(|text| format!("staging = {staging:?}\n{text}"));
    let json = look(&home);
    says(&json, "room", "fail", "are free", "forget --prune");
    says(&json, "staging", "fail", "largest database", "staging");
}

#[test]
fn folders_that_others_may_enter_are_told() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o755)).unwrap();
    says(&look(&home), "private folders", "fail", "0755", "chmod 700");
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o700)).unwrap();
    // Root can use it, and no advice of root's may lock that user out.
    chown(home.state(), Some(54_321), None).unwrap();
    says(
        &look(&home),
        "private folders",
        "warn",
        "belongs to #54321",
        "sudo -u '#54321' rustic-hapi doctor",
    );
}

#[test]
fn what_time_brought_is_told() {
    let home = Home::initialised();
    home.at("2027-01-31T06:00:00Z", &["snapshot"]).exits(0);
    home.at("2027-01-31T07:00:00Z", &["drill"]).exits(0);
    let at = |time: &str| home.at(time, &["doctor", "--json"]).json();
    let early = at("2027-01-30T00:00:00Z");
    says(
        &early,
        "snapshots",
        "fail",
        "in the future",
        "restic forget",
    );
    let late = at("2027-03-15T00:00:00Z");
    says(&late, "snapshots", "ok", "newest", "");
    says(&late, "drill", "warn", "42 days ago", "rustic-hapi drill");
    let before = at("2001-01-01T00:00:00Z");
    says(&before, "clock", "fail", "2001", "timedatectl");

    fs::remove_file(home.hapi("hub.env")).unwrap();
    home.snapshot().exits(3);
    let json = look(&home);
    says(
        &json,
        "last run",
        "warn",
        "exit code 3",
        "rustic-hapi snapshot",
    );
}

#[test]
fn an_identity_beside_what_it_opens_is_told() {
    let home = Home::initialised();
    let (second, folder) = (second_recipient(&home), home.path().join(".config/age"));
    assert!(second.starts_with("age1"));
    fs::create_dir_all(&folder).unwrap();
    // One that opens something else is nobody's business.
    fs::copy(home.dir.path().join("second.txt"), folder.join("else.txt")).unwrap();
    says(&look(&home), "identity", "ok", "no private key", "");
    fs::copy(home.identity(), folder.join("keys.txt")).unwrap();
    says(
        &look(&home),
        "identity",
        "warn",
        "keys.txt",
        "drill --identity",
    );
}

#[test]
fn a_recovery_key_that_nobody_tried_is_told() {
    let home = Home::initialised();
    let key = home.dir.path().join("recovery.txt");
    let args = [
        "recovery-kit",
        "--new-key",
        "--key-file",
        key.to_str().unwrap(),
    ];
    home.hapi_command(&args).exits(0);
    says(
        &look(&home),
        "recovery key",
        "warn",
        "never verified",
        "--confirm",
    );
}

#[test]
fn a_broken_profile_is_a_failure_among_others() {
    let home = Home::initialised();
    home.edit_profile(|text| format!("nonsense = 1\n{text}"));
    let said = doctor(&home, &["doctor", "--json"]).exits(1);
    let json = said.json();
    says(&json, "profile", "fail", "nonsense", "");
    says(&json, "repository", "warn", "the profile is invalid", "");
    says(&json, "private folders", "ok", "", "");
    says(&json, "clock", "ok", "it is", "");
    let text = doctor(&home, &["doctor"]).exits(1).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("1 failed, "), "{text}");
    assert!(lines[1].starts_with("FAIL profile: "), "{text}");
    assert!(lines[2].starts_with("     "), "{text}");
    assert!(lines[3].starts_with("skip sources, "), "{text}");
    assert_eq!(text.matches("the profile is invalid").count(), 1, "{text}");
    fs::remove_file(home.profile()).unwrap();
    says(
        &look(&home),
        "profile",
        "fail",
        "no profile",
        "rustic-hapi init",
    );
}

#[test]
fn what_only_the_shell_knows_is_told() {
    let home = Home::initialised();
    let elsewhere = home.path().join("elsewhere");
    fs::rename(home.path().join(".hapi"), &elsewhere).unwrap();
    let look = |args: &[&str]| -> Said {
        let mut command = home.command();
        let output = command.env("HAPI_HOME", &elsewhere).args(args).output();
        output.unwrap().into()
    };
    let json = look(&["--json", "doctor", "--as-cron"]).exits(1).json();
    says(&json, "source hapi.db", "ok", "elsewhere", "");
    says(
        &json,
        "as cron: source hapi.db",
        "fail",
        "does not exist",
        "profile",
    );
    let text = look(&["doctor", "--as-cron"]).exits(1).stdout;
    assert!(text.contains("FAIL as cron: source hapi.db: "), "{text}");
    assert!(!text.contains("as cron: repository: "), "{text}");
}

#[test]
fn old_programs_and_none_are_told() {
    let home = Home::initialised();
    let bin = home.dir.path().join("old");
    fs::create_dir_all(&bin).unwrap();
    let look = |path: &Path| -> Value {
        let mut command = home.command();
        command.env("PATH", path).args(["doctor", "--json"]);
        Said::from(command.output().unwrap()).json()
    };
    says(&look(&bin), "git", "warn", "git-untracked", "install git");
    let script = "#!/bin/sh\necho git version 1.8.3\n";
    fs::write(bin.join("git"), script).unwrap();
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    says(&look(&bin), "git", "warn", "1.8", "2.32 or later");

    let rclone = "#!/bin/sh\n[ \"$1\" != version ] || echo rclone v1.60.1-DEV\n";
    fs::write(bin.join("rclone"), rclone).unwrap();
    fs::set_permissions(bin.join("rclone"), fs::Permissions::from_mode(0o755)).unwrap();
    let (from, to) = (format!("{:?}", home.repository()), "\"rclone:there:\"");
    home.edit_profile(|text| text.replace(&from, to));
    says(&look(&bin), "rclone", "warn", "1.60", "1.63 or later");
}

#[test]
fn a_timer_that_will_not_run_is_told() {
    let home = Home::initialised();
    let said = doctor(&home, &["schedule", "--install"]).exits(3);
    assert!(said.stderr.contains("nothing calls it"), "{said:?}");
    assert!(!said.stdout.contains("runs at"), "{said:?}");
    let units = home.path().join(".config/systemd/user");
    let wanted = units.join("timers.target.wants");
    says(
        &look(&home),
        "schedule",
        "fail",
        "not enabled",
        "schedule --install",
    );
    let timer = fs::read_dir(&units)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "timer"))
        .unwrap();
    fs::create_dir_all(&wanted).unwrap();
    let link = wanted.join(timer.file_name().unwrap());
    std::os::unix::fs::symlink(&timer, link).unwrap();
    says(
        &look(&home),
        "schedule",
        "fail",
        "logged in",
        "enable-linger",
    );
    doctor(&home, &["schedule", "--install", "--cron"]).written();
    says(
        &look(&home),
        "schedule",
        "warn",
        "more than once",
        "--remove --cron",
    );
}

#[test]
fn a_repository_with_chunks_of_restics_is_told() {
    let home = Home::initialised();
    fs::remove_dir_all(home.repository()).unwrap();
    home.restic(&["init"]);
    home.edit_profile(|text| text.replace("\nid = ", "\n# id = "));
    says(
        &look(&home),
        "chunk size",
        "warn",
        "content-defined",
        "init --repository",
    );
}

#[test]
fn the_hub_of_another_profile_is_not_the_one_that_is_meant() {
    let home = Home::initialised();
    let other = home.path().join("other/.hapi");
    fs::create_dir_all(&other).unwrap();
    fs::copy(home.database(), other.join("hapi.db")).unwrap();
    let _hub = BusyHub::start(&other.join("hapi.db"));
    says(
        &look(&home),
        "hub",
        "fail",
        "which is not in the profile",
        "hapi-home",
    );
    let text = fs::read_to_string(home.profile()).unwrap();
    let text =
        format!("hapi-home = {other:?}\n{text}").replace("hub-id = \"", "hub-id = \"00000000");
    fs::write(home.profile().with_file_name("two.toml"), text).unwrap();
    // Hubs of other tests may be running, too.
    let fact = finding(&look(&home), "hub")["fact"].to_string();
    assert!(!fact.contains(&*other.to_string_lossy()), "{fact}");
}

#[test]
fn a_state_folder_that_is_none_is_found() {
    let home = Home::initialised();
    let state = home.state().parent().unwrap().to_path_buf();
    let make_link = || std::os::unix::fs::symlink("/nonexistent/folder", &state);
    for make in [&|| fs::write(&state, ""), &make_link as &dyn Fn() -> _] {
        _ = fs::remove_dir_all(&state);
        _ = fs::remove_file(&state);
        make().unwrap();
        let fact = format!("`{}` is not a folder", state.display());
        says(
            &look(&home),
            "private folders",
            "fail",
            &fact,
            "move it away",
        );
    }
}

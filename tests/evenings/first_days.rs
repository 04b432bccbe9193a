//! What the first days bring: a set-up that is not complete, keys that nobody tried, a second host, a copied profile, a
//! repository that is not there, a hub that is lost. Each hint is run as it stands.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::{Home, files_below, run, sqlite3};
use crate::evenings::{Evening, suggested};
use crate::schedule::{Cron, Crontab};

/// What `doctor` finds on a subject.
fn finds(evening: &Evening, subject: &str) -> Value {
    let json = evening.says(&["doctor", "--json"]).json();
    let mut all = json["findings"].as_array().unwrap().iter();
    all.find(|f| f["subject"] == subject).unwrap().clone()
}

fn recipient(evening: &Evening, name: &str) -> String {
    let key = evening.home.dir.path().join(name);
    run("age-keygen", &["-o".as_ref(), key.as_os_str()]);
    run("age-keygen", &["-y".as_ref(), key.as_os_str()])
        .stdout
        .trim()
        .to_owned()
}

/// The one suggested command that has these words.
#[track_caller]
fn that_has(said: &crate::common::Said, words: &str) -> String {
    let all = suggested(said);
    let found: Vec<_> = all.iter().filter(|s| s.contains(words)).collect();
    assert_eq!(found.len(), 1, "{words}: {all:?}");
    found[0].clone()
}

/// What a restored session is resumed by is not taken unless somebody asks for it, and `init` says so.
#[test]
fn transcripts_of_agents_are_taken_once_that_is_followed() {
    let evening = Evening::of_root();
    let home = &evening.home;
    let folder = home.path().join(".claude/projects/a");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("session.jsonl"), "{}\n").unwrap();
    let said = evening.says(&["init"]).exits(0);
    assert!(
        said.stdout.contains("NOT taken: claude (a file"),
        "{said:?}"
    );
    evening
        .follows(&that_has(&said, "--with-agents"), &[])
        .exits(0);
    evening.says(&["snapshot"]).exits(0);
    assert_eq!(home.ids("hapi-agents").len(), 1);
}

#[test]
fn what_the_doctor_asks_for_after_a_set_up_in_a_hurry() {
    let evening = Evening::of_root();
    let home = &evening.home;
    // No recipient, no drill, and a password that is nowhere else.
    home.edit_profile(|text| {
        text.replace(
            &format!("recipients = [{:?}]", home.recipient),
            "recipients = []\nskip = true",
        )
    });
    let said = evening.says(&["doctor"]).exits(1);

    let keys = [recipient(&evening, "one"), recipient(&evening, "two")];
    let with_keys = that_has(&said, "init --recipient KEY").replacen("KEY", &keys[0], 1);
    crate::advice::followed(&that_has(&said, "init --recipient KEY"));
    evening
        .types(0, &with_keys.replace("KEY", &keys[1]))
        .exits(0);
    assert_eq!(finds(&evening, "recipients")["verdict"], "ok");

    let file = home.dir.path().join("stick");
    let file = file.to_str().unwrap();
    for step in ["--new-key --key-file FILE", "--confirm --key-file FILE"] {
        evening
            .follows(&that_has(&said, step), &[("FILE", file)])
            .exits(0);
    }
    assert_eq!(finds(&evening, "recovery key")["verdict"], "ok");
    // A file that is there is not written over.
    let again = evening
        .says(&["recovery-kit", "--new-key", "--key-file", file])
        .exits(2);
    for said in evening.followed(&again, &[]) {
        said.exits(0);
    }

    evening.says(&["snapshot"]).exits(0);
    let drill = suggested(&said).into_iter().find(|s| s.ends_with("drill"));
    evening.follows(&drill.unwrap(), &[]).exits(0);
    assert_eq!(finds(&evening, "drill")["verdict"], "ok");

    // An identity that lies about.
    let lies = home.path().join(".config/age/keys.txt");
    fs::create_dir_all(lies.parent().unwrap()).unwrap();
    fs::copy(home.dir.path().join("one"), &lies).unwrap();
    fs::set_permissions(&lies, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let identity = finds(&evening, "identity");
    if identity["verdict"] != "ok" {
        let said = evening.says(&["doctor"]);
        let stick = home.dir.path().join("one");
        evening
            .follows(
                &that_has(&said, "drill --identity FILE"),
                &[("FILE", stick.to_str().unwrap())],
            )
            .exits(0);
    }
}

#[test]
fn a_profile_that_is_not_valid_is_checked_as_the_doctor_says() {
    let evening = Evening::of_root();
    evening
        .home
        .edit_profile(|text| format!("nonsense = 1\n{text}"));
    let said = evening.says(&["doctor"]).exits(1);
    let check = that_has(&said, "profile check");
    evening.follows(&check, &[]).exits(2);
    evening
        .home
        .edit_profile(|text| text.replace("nonsense = 1\n", ""));
    evening.follows(&check, &[]).exits(0);
    let head = fs::read_to_string(evening.home.profile()).unwrap();
    let show = head.split('`').find(|span| span.ends_with("profile show"));
    evening.follows(show.unwrap(), &[]).exits(0);
}

#[test]
fn a_second_host_a_second_hub_and_a_copied_profile() {
    let evening = Evening::of_root();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    let place = home.repository();
    let password = home.password();

    // The same host and another hub: it is the one or the other, and both ways are named.
    let other = Home::new();
    fs::create_dir_all(other.password().parent().unwrap()).unwrap();
    fs::copy(&password, other.password()).unwrap();
    fs::set_permissions(
        other.password(),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let at_other = Evening {
        home: other,
        user: 0,
    };
    let bin = at_other.home.dir.path().join("bin");
    std::os::unix::fs::symlink(home.dir.path().join("bin"), bin).unwrap();
    let said = at_other
        .says(&[
            "init",
            "--allow-same-disk",
            "--repository",
            place.to_str().unwrap(),
            "--recipient",
            &home.recipient,
        ])
        .exits(2);
    let as_second = that_has(&said, "--host NAME");
    at_other.follows(&as_second, &[("NAME", "second")]).exits(0);
    at_other.says(&["snapshot"]).exits(0);

    // Without a profile somebody has to say which.
    let bare = [
        "--home",
        "/nonexistent",
        "--repository",
        place.to_str().unwrap(),
        "--password-file",
        password.to_str().unwrap(),
    ];
    let all = [&bare[..], &["snapshots", "--all-hosts"]].concat();
    let all = evening.says(&all).exits(0).stdout;
    assert!(all.contains("  second  "), "{all}");

    // A profile that matches nothing says where to look.
    home.edit_profile(|text| text.replace("host = ", "host = \"nobody\" # "));
    let said = evening.says(&["snapshots"]).exits(0);
    let listed = evening
        .follows(&that_has(&said, "--all-hosts"), &[])
        .exits(0);
    assert!(listed.stdout.contains("  second  "), "{listed:?}");
    home.edit_profile(|text| text.replace("host = \"nobody\" # ", "host = "));

    // A copy of the profile for another database: the two would be taken for one hub.
    let copy = home.profile().with_file_name("copy.toml");
    let elsewhere = home.path().join("other-hub");
    fs::create_dir(&elsewhere).unwrap();
    for name in ["hapi.db", "hub.env", "driver-status.json"] {
        crate::common::copy(&home.hapi(name), &elsewhere.join(name));
    }
    let text = fs::read_to_string(home.profile()).unwrap();
    fs::write(&copy, format!("hapi-home = {elsewhere:?}\n{text}")).unwrap();
    let said = evening.says(&["--profile", "copy", "snapshot"]).exits(2);
    let advised = that_has(&said, "init");
    let own: String = text
        .lines()
        .filter(|line| !line.starts_with("hub-id = "))
        .map(|line| format!("{line}\n"))
        .collect();
    let password_line = format!("password-file = {password:?}\n[secrets]");
    let own = own.replace("[secrets]", &password_line);
    let own = own.replace("host = \"", "host = \"third-");
    fs::write(&copy, format!("hapi-home = {elsewhere:?}\n{own}")).unwrap();
    evening.follows(&advised, &[("COPY", "copy")]).exits(0);
    evening.says(&["--profile", "copy", "snapshot"]).exits(0);
    let all = evening.says(&["snapshots", "--all-hosts"]).exits(0).stdout;
    assert!(all.contains("  third-"), "{all}");
}

#[test]
fn nothing_calls_it_and_then_two_things_do() {
    let _crontab = Crontab::take();
    let evening = Evening::of_root();
    // Whoever starts programs on a machine without either calls what is said.
    let written = evening.says(&["schedule", "--install"]).exits(3);
    if let Some(call) = suggested(&written)
        .iter()
        .find(|s| s.contains("--drill -q"))
    {
        evening.follows(call, &[]).exits(0);
        assert_eq!(finds(&evening, "last run")["verdict"], "ok");
    }
    evening.says(&["schedule", "--remove"]).exits(0);

    let _cron = Cron::start();
    let said = evening.says(&["doctor"]).exits(1);
    // No systemd answers here: what is written is called by nobody, and cron is named.
    let written = evening
        .follows(&that_has(&said, "schedule --install"), &[])
        .exits(3);
    let by_cron = that_has(&written, "--cron");
    evening.follows(&by_cron, &[]).written();
    // Now there are two; one of them is taken away as the doctor says.
    let schedule = finds(&evening, "schedule");
    let said = evening.says(&["doctor"]);
    if schedule["fact"]
        .as_str()
        .unwrap()
        .contains("more than once")
    {
        evening
            .follows(&that_has(&said, "schedule --remove"), &[])
            .exits(0);
    }
    let again = evening.says(&["doctor"]);
    assert!(!again.stdout.contains("more than once"), "{again:?}");
}

#[test]
fn a_restore_to_where_it_would_do_harm() {
    let evening = Evening::of_root();
    evening.says(&["snapshot"]).exits(0);
    let said = evening.says(&["restore", "--target", "/"]).exits(2);
    let in_place = that_has(&said, "--in-place");
    // Nobody is there to ask: it names what else it needs.
    let said = evening.follows(&in_place, &[]).exits(2);
    let with_id = suggested(&said);
    let with_id = with_id.iter().find(|s| s.contains("--in-place"));
    evening.follows(with_id.unwrap(), &[]).exits(0);
    // Of secrets that stay encrypted it says how they are opened.
    let target = evening.home.dir.path().join("restored");
    let said = evening
        .says(&["restore", "--target", target.to_str().unwrap()])
        .exits(0);
    assert!(said.stdout.contains("age -d -i FILE"), "{said:?}");
    let secret = target.join(evening.home.hapi("hub.env.age").strip_prefix("/").unwrap());
    let line = format!("age -d -i FILE {}", secret.display());
    let identity = evening.home.identity();
    let opened = evening.types(0, &line.replace("FILE", identity.to_str().unwrap()));
    crate::advice::followed("age -d -i FILE");
    assert!(opened.exits(0).stdout.contains("API_KEY="));
}

#[test]
fn a_lock_that_a_crash_left() {
    let evening = Evening::of_root();
    evening.says(&["snapshot"]).exits(0);
    let mut restic = evening.home.restic_command(&["backup", "--stdin"]);
    let mut child = restic.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let locks = evening.home.repository().join("locks");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // Until then it has another name, and is none.
    let is_lock = |entry: fs::DirEntry| entry.file_name().len() == 64;
    while !fs::read_dir(&locks).unwrap().flatten().any(is_lock) {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = evening.says(&["doctor"]);
    let unlock = suggested(&said);
    let unlock = unlock.iter().find(|s| s.contains("restic unlock"));
    let unlock = unlock.unwrap_or_else(|| panic!("{said:?}")).clone();
    let shell = match unlock.starts_with("eval") {
        true => unlock.clone(),
        false => format!("eval \"$(rustic-hapi env)\"; {unlock}"),
    };
    crate::advice::followed(&unlock);
    evening.types(0, &shell).exits(0);
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 0);
    assert_eq!(finds(&evening, "locks")["verdict"], "ok");
}

#[test]
fn a_repository_that_is_not_there() {
    let evening = Evening::of_root();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    let (there, away) = (home.repository(), home.dir.path().join("away"));
    fs::rename(&there, &away).unwrap();
    let said = evening.says(&["snapshot"]).exits(10);
    // A profile that has an id does not make another one, and nobody is told to.
    assert!(
        said.stderr.contains("hint: is the disk mounted?"),
        "{said:?}"
    );
    assert!(!said.stderr.contains("rustic-hapi init"), "{said:?}");
    assert_ne!(evening.says(&["init"]).code, 0);
    assert!(!there.exists());
    fs::rename(&away, &there).unwrap();
    evening.says(&["snapshot"]).exits(0);

    // Nothing is set up: it says how.
    let new = Home::new();
    let bin = new.dir.path().join("bin");
    std::os::unix::fs::symlink(home.dir.path().join("bin"), bin).unwrap();
    let new = Evening { home: new, user: 0 };
    let said = new.says(&["snapshot"]).exits(2);
    let place: PathBuf = new.home.dir.path().join("place");
    fs::create_dir(&place).unwrap();
    let command = that_has(&said, "init");
    let blanks = [("LOCATION", place.to_str().unwrap())];
    // The disk of the test is the hub's own, which it says in its turn.
    assert_ne!(new.follows(&command, &blanks).code, 0);
    new.types(
        0,
        &format!(
            "rustic-hapi init --allow-same-disk --repository {}",
            place.display()
        ),
    )
    .exits(0);
    new.says(&["snapshot"]).exits(0);
}

#[test]
fn a_drill_that_finds_something_and_what_is_done_then() {
    let evening = Evening::of_root();
    let home = &evening.home;
    evening.says(&["snapshot"]).exits(0);
    let before = files_below(&home.repository().join("data"));
    sqlite3(
        &home.database(),
        "UPDATE messages SET content = hex(randomblob(2000))",
    );
    evening.says(&["snapshot"]).exits(0);
    // The disk lost what came last.
    for (pack, _) in files_below(&home.repository().join("data")) {
        if !before.iter().any(|(old, _)| *old == pack) {
            fs::remove_file(pack).unwrap();
        }
    }
    let said = evening.says(&["drill"]);
    assert!([21, 22].contains(&said.code), "{said:?}");
    // What is affected, and that an older one is well.
    evening
        .follows(&that_has(&said, "check --read-data"), &[])
        .exits(1);
    evening
        .follows(&that_has(&said, "drill --older"), &[])
        .exits(0);
}

//! `init` and the profile commands through the real binary.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::common::{BusyHub, CANARIES, Home, Said, files_below, run};

#[test]
fn a_new_machine_gets_password_repository_and_a_short_profile() {
    let home = Home::new();
    let said = home.init().exits(0);
    assert!(
        said.stdout
            .contains("Keep a copy of these off this machine"),
        "{}",
        said.stdout
    );
    let profile = fs::read_to_string(home.profile()).unwrap();
    assert!(profile.contains("extends = \"hapi\""), "{profile}");
    assert!(profile.lines().count() < 20, "{profile}");
    for private in [home.password(), home.profile()] {
        assert_eq!(
            fs::metadata(&private).unwrap().mode() & 0o077,
            0,
            "{}",
            private.display()
        );
    }
    let config = home.restic(&["cat", "config"]).json();
    assert_eq!(config["version"], 2);
    // restic prints what it knows of it alone.
    assert_eq!(home.engine().config().compression, Some(1));
    assert!(profile.contains(config["id"].as_str().unwrap()));
    for file in ["config", "keys", "data", "snapshots"] {
        let mode = fs::metadata(home.repository().join(file)).unwrap().mode();
        assert_eq!(mode & 0o077, 0, "{file} is for its owner alone");
    }
    // Once more: nothing to do, and nothing changes.
    let password = fs::read(home.password()).unwrap();
    home.init().exits(0);
    assert_eq!(fs::read(home.password()).unwrap(), password);
    assert_eq!(fs::read_to_string(home.profile()).unwrap(), profile);
}

#[test]
fn what_a_hub_does_not_have_is_told_before_a_snapshot_lacks_it() {
    let home = Home::new();
    let voice = home.path().join("voice-test-output");
    fs::remove_dir_all(&voice).unwrap();
    let line = "without = [\"voice-test-output\"]";
    let said = home.init().exits(0);
    for part in [
        &*voice.to_string_lossy(),
        "so snapshots will be partial",
        line,
    ] {
        assert!(said.stderr.contains(part), "{}", said.stderr);
    }
    let profile = fs::read_to_string(home.profile()).unwrap();
    fs::write(home.profile(), format!("{line}\n{profile}")).unwrap();
    let said = home.init().exits(0);
    assert!(!said.stderr.contains("will be partial"), "{}", said.stderr);
    home.snapshot().exits(0);
}

#[test]
fn a_profile_that_exists_keeps_its_comments_and_gets_the_id() {
    let home = Home::new();
    fs::create_dir_all(home.profile().parent().unwrap()).unwrap();
    let text = format!(
        "# mine\nextends = \"hapi\" # the fork\n[repository]\nlocation = {:?} # the box\nallow-same-disk = true\n[secrets]\nrecipients = [{:?}]\n",
        home.repository(),
        home.recipient
    );
    fs::write(home.profile(), &text).unwrap();
    fs::set_permissions(home.profile(), fs::Permissions::from_mode(0o640)).unwrap();
    home.hapi_command(&["init"]).exits(0);
    let now = fs::read_to_string(home.profile()).unwrap();
    for line in text.lines() {
        assert!(now.contains(line), "`{line}` is gone from {now}");
    }
    assert!(now.contains("id = ") && now.contains("host = "), "{now}");
    assert_eq!(fs::metadata(home.profile()).unwrap().mode() & 0o777, 0o640);
    home.snapshot().exits(0);
}

#[test]
fn a_profile_that_may_not_be_written_gets_its_lines_printed() {
    let home = Home::new();
    let place = home.dir.path().join("etc");
    fs::create_dir(&place).unwrap();
    let profile = place.join("hapi.toml");
    let text = format!(
        "extends = \"hapi\"\n[repository]\nlocation = {:?}\npassword-file = {:?}\nallow-same-disk = true\n[secrets]\nrecipients = [{:?}]\n",
        home.repository(),
        home.password(),
        home.recipient
    );
    fs::write(&profile, text).unwrap();
    let mount = |args: &[&str]| {
        let mut all: Vec<&std::ffi::OsStr> = args.iter().map(std::ffi::OsStr::new).collect();
        all.push(place.as_os_str());
        run(args[0], &all[1..]);
    };
    run(
        "mount",
        &["--bind".as_ref(), place.as_os_str(), place.as_os_str()],
    );
    mount(&["mount", "-o", "remount,bind,ro"]);
    let said = home.hapi_command(&["--profile", profile.to_str().unwrap(), "init"]);
    mount(&["umount"]);
    let said = said.exits(0);
    assert!(
        said.stdout.contains("may not be written") && said.stdout.contains("id = "),
        "{}",
        said.stdout
    );
}

#[test]
fn without_a_recipient_secrets_are_left_out_and_every_run_says_so() {
    let home = Home::new();
    let repository = home.repository();
    let args = [
        "init",
        "--repository",
        repository.to_str().unwrap(),
        "--allow-same-disk",
    ];
    let said = home.hapi_command(&args).exits(0);
    assert!(
        said.stdout.contains("Secrets are NOT kept"),
        "{}",
        said.stdout
    );
    let snapshot = home.hapi_command(&["-q", "snapshot"]).exits(0);
    assert!(snapshot.stderr.contains("hub.env"), "{}", snapshot.stderr);
    assert!(!home.manifest("hapi").to_string().contains("hub.env.age"));
}

#[test]
fn the_running_hubs_home_is_found() {
    let home = Home::new();
    let elsewhere = home.dir.path().join("var lib");
    fs::create_dir(&elsewhere).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("hapi.db{suffix}");
        _ = fs::rename(home.hapi(&name), elsewhere.join(&name));
    }
    let hub = BusyHub::start(&elsewhere.join("hapi.db"));
    let repository = home.repository();
    let said = home.hapi_command(&[
        "init",
        "--json",
        "--repository",
        repository.to_str().unwrap(),
        "--allow-same-disk",
    ]);
    drop(hub);
    // Another test's hub may run on this machine, too: then we are asked which one.
    if said.code == 2 {
        assert!(said.stderr.contains("--hapi-home"), "{}", said.stderr);
        assert!(
            said.stderr.contains(elsewhere.to_str().unwrap()),
            "{}",
            said.stderr
        );
    } else {
        assert_eq!(
            said.exits(0).json()["hapi-home"],
            elsewhere.to_str().unwrap()
        );
    }
}

#[test]
fn a_repository_that_restic_made_is_taken_and_its_cost_told() {
    let home = Home::new();
    fs::create_dir_all(home.password().parent().unwrap()).unwrap();
    fs::write(home.password(), "restic's own\n").unwrap();
    fs::set_permissions(home.password(), fs::Permissions::from_mode(0o600)).unwrap();
    home.restic(&["init"]);
    let said = home.init().exits(0);
    assert!(said.stdout.contains("existed already"), "{}", said.stdout);
    assert!(said.stdout.contains("content-defined"), "{}", said.stdout);
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn profile_check_and_show() {
    let home = Home::initialised();
    let said = home.hapi_command(&["profile", "check"]).exits(0);
    assert!(
        said.stdout.contains("13 sources, 2 series"),
        "{}",
        said.stdout
    );
    let shown = home.hapi_command(&["profile", "show"]).exits(0).stdout;
    for default in [
        "total = \"2h\"",
        "no-progress = \"5m\"",
        "shrink-alarm = 0.3333",
        "quiet-alarm = \"7d\"",
        "keep-monthly = 0",
        "integrity = \"full\"",
        "required = true",
        "staging = ",
        "password-file = ",
    ] {
        assert!(shown.contains(default), "{default}: {shown}");
    }
    // What is shown is a whole profile of its own.
    let copy = home.dir.path().join("copy.toml");
    fs::write(&copy, shown.replace("extends = \"hapi\"\n", "")).unwrap();
    let again = home
        .hapi_command(&["--profile", copy.to_str().unwrap(), "profile", "check"])
        .exits(0);
    assert!(
        again.stdout.contains("13 sources, 2 series"),
        "{}",
        again.stdout
    );
}

#[test]
fn a_run_leaves_no_core_and_tells_no_password() {
    let home = Home::initialised();
    let hub = BusyHub::start(&home.database());
    let password = fs::read_to_string(home.password()).unwrap();
    let mut child = home.command().arg("snapshot").spawn().unwrap();
    let mut seen = false;
    while child.try_wait().unwrap().is_none() {
        let proc = std::path::Path::new("/proc").join(child.id().to_string());
        let limits = fs::read_to_string(proc.join("limits")).unwrap_or_default();
        let arguments = fs::read_to_string(proc.join("cmdline")).unwrap_or_default();
        let environment = fs::read_to_string(proc.join("environ")).unwrap_or_default();
        assert!(!arguments.contains(password.trim()) && !environment.contains(password.trim()));
        // From the moment it set its limits on, which is the first thing it does.
        seen |= limits.lines().any(|l| {
            l.starts_with("Max core file size") && l.split_whitespace().nth(4) == Some("0")
        });
    }
    drop(hub);
    assert!(child.wait().unwrap().success());
    assert!(seen, "core dumps are off while it runs");
}

/// Several keys in one string, as `$(cat a.pub b.pub)`, authorized_keys and `https://…/you.keys` have
/// them: the second one was dropped in silence.
#[test]
fn every_recipient_of_a_list_opens_the_secrets() {
    let home = Home::new();
    let folder = home.dir.path();
    let key = |name: &str, kind: &[&str]| -> String {
        let file = folder.join(name);
        let mut args: Vec<&OsStr> = vec!["-q".as_ref(), "-N".as_ref(), "".as_ref()];
        args.extend(kind.iter().map(OsStr::new));
        args.extend(["-f".as_ref(), file.as_os_str()]);
        run("ssh-keygen", &args);
        fs::read_to_string(file.with_extension("pub")).unwrap()
    };
    let a = key("a", &["-t", "ed25519", "-C", "laptop of a"]);
    let b = key("b", &["-t", "rsa", "-b", "2048"]);
    let c = key("c", &["-t", "ed25519"]);
    let list = folder.join("you.keys");
    fs::write(
        &list,
        format!("# mine\r\nrestrict,no-pty {}\r\n\r\n", c.trim()),
    )
    .unwrap();
    let repository = home.repository();
    let init = |more: &[&str]| -> crate::common::Said {
        let mut command = home.command();
        command
            .args(["init", "--allow-same-disk", "--repository"])
            .arg(&repository)
            .args(more);
        command.output().unwrap().into()
    };

    // One that cannot be used refuses all of them, and nothing is made.
    let ecdsa = key("d", &["-t", "ecdsa"]);
    let weak = key("e", &["-t", "rsa", "-b", "1024"]);
    for (unusable, instead) in [
        (ecdsa.as_str(), "ed25519"),
        (weak.as_str(), "ed25519"),
        ("age1yubikey1qvqqqqqq", "age-keygen"),
        ("ssh-ed25519 AAAAnonsense", "neither"),
    ] {
        let said = init(&["--recipient", &format!("{a}{unusable}")]).exits(2);
        let name: Vec<_> = unusable.split_whitespace().take(2).collect();
        assert!(said.stderr.contains(&name.join(" ")), "{said:?}");
        assert!(said.stderr.contains(instead), "{said:?}");
        assert!(!home.repository().exists() && !home.profile().exists());
    }

    init(&[
        "--recipient",
        &format!("{a}{b}"),
        "--recipients-file",
        list.to_str().unwrap(),
    ])
    .exits(0);
    home.snapshot().exits(0);
    let opens = |tag: &str| {
        let sealed = folder.join("sealed.age");
        fs::write(&sealed, home.dump(tag, &home.hapi("hub.env.age"))).unwrap();
        for name in ["a", "b", "c"] {
            let identity = folder.join(name);
            let args = [
                "-d".as_ref(),
                "-i".as_ref(),
                identity.as_os_str(),
                sealed.as_os_str(),
            ];
            let said = run("age", &args);
            assert!(said.stdout.contains(CANARIES[0]), "{name}");
        }
    };
    opens("hapi");

    // And in a profile that somebody wrote so, a string for the three of them.
    home.edit_profile(|text| {
        let line = text.lines().find(|l| l.starts_with("recipients")).unwrap();
        let all = format!("{a}{b}{}", fs::read_to_string(&list).unwrap());
        text.replace(line, &format!("recipients = [{all:?}]"))
    });
    home.snapshot().exits(0);
    opens("hapi");
}

/// The cost of opening a repository is what keeps who has its files from trying passwords. Tests make it cheap
/// by files they write (tests/common/cheap.rs); the program never does, not even beside such a key.
#[test]
fn every_key_that_the_program_makes_is_a_costly_one() {
    let costs = |home: &Home| -> Vec<(u64, u64)> {
        let keys = files_below(&home.repository().join("keys"));
        let mut costs: Vec<_> = keys
            .iter()
            .map(|(path, _)| serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
            .map(|key: serde_json::Value| (key["N"].as_u64().unwrap(), key["r"].as_u64().unwrap()))
            .collect();
        costs.sort_unstable();
        costs
    };
    let usual = (1 << 17, 8);
    let home = Home::new();
    home.init().exits(0);
    assert_eq!(costs(&home), [usual]);

    let cheap = Home::initialised();
    assert_eq!(costs(&cheap), [(2, 1)]);
    let file = cheap.dir.path().join("recovery key");
    let file = file.to_str().unwrap();
    cheap
        .hapi_command(&["recovery-kit", "--new-key", "--key-file", file])
        .exits(0);
    assert_eq!(costs(&cheap), [(2, 1), usual]);

    // And a home with a cheap key is like one that `init` made in all else, for both programs.
    let names = |home: &Home| -> BTreeSet<String> {
        let root = home.dir.path().to_str().unwrap().to_owned();
        let script = "cd \"$1\" && find repository home/.config home/.local -printf '%y %m %p\\n' | sed -E 's/[0-9a-f]{16,}/ID/'";
        let found = run("sh", &["-c", script, "sh", &root].map(AsRef::as_ref));
        found.stdout.lines().map(str::to_owned).collect()
    };
    let (first, second) = (Home::initialised(), Home::initialised());
    let (names_first, names_of_init) = (names(&first), names(&home));
    let differ: Vec<_> = names_first.symmetric_difference(&names_of_init).collect();
    assert!(differ.is_empty(), "{differ:?}");
    let id = |home: &Home| home.restic(&["cat", "config"]).json()["id"].to_string();
    assert_ne!(id(&first), id(&second));
    fs::copy(first.password(), second.password()).unwrap();
    second.hapi_command(&["snapshot"]).exits(12);
    let refused = second.restic_command(&["snapshots"]).output().unwrap();
    assert!(!refused.status.success());
}

#[test]
fn a_path_that_no_snapshot_can_hold_is_refused_before_anything_is_made() {
    let home = Home::new();
    let odd = home.dir.path().join(OsStr::from_bytes(b"n\xff"));
    fs::create_dir_all(odd.join(".hapi")).unwrap();
    let repository = home.repository();
    let init = |change: &dyn Fn(&mut Command)| {
        let mut command = home.command();
        command.args(["init", "--allow-same-disk", "--repository"]);
        command.arg(&repository);
        change(&mut command);
        let said = Said::from(command.output().unwrap());
        assert!(said.code == 2, "{said:?}");
        assert!(said.stderr.contains("is not valid UTF-8"), "{said:?}");
        assert!(said.stderr.contains("hint: rename it"), "{said:?}");
        assert!(!repository.exists() && !home.profile().exists());
    };
    init(&|command| _ = command.env("HOME", &odd));
    init(&|command| _ = command.arg("--home").arg(&odd));
    init(&|command| _ = command.env("HAPI_HOME", odd.join(".hapi")));
    init(&|command| _ = command.arg("--hapi-home").arg(odd.join(".hapi")));
    init(&|command| _ = command.arg("--password-file").arg(odd.join("password")));
    assert_eq!(fs::read_dir(&odd).unwrap().count(), 1);
}

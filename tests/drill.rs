//! Drills through the real binary: what is proven is there, whatever is damaged is found, and
//! nothing is left behind.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{
    BusyHub, CANARIES, Home, Said, Tmpfs, copy, files_below, files_with, on_terminal, run, sqlite3,
};
use serde_json::Value;

fn verdict<'a>(report: &'a Value, source: &str) -> &'a str {
    let sources = report["sources"].as_array().unwrap();
    let found = sources.iter().find(|s| s["name"] == source);
    found.unwrap_or_else(|| panic!("no {source} in {report:#}"))["verdict"]
        .as_str()
        .unwrap()
}

/// The scratch folders that are there.
fn scratch(home: &Home) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(home.state().join("staging")) else {
        return Vec::new();
    };
    entries.flatten().map(|e| e.path()).collect()
}

fn no_canary(home: &Home, said: &Said) {
    for canary in CANARIES {
        let told = [&said.stdout, &said.stderr];
        assert!(told.iter().all(|text| !text.contains(canary)), "{said:?}");
        assert!(!said.stdout.contains("JWT_SECRET"), "{said:?}");
        let state = home.path().join(".local");
        assert_eq!(files_with(&state, canary), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_sound_repository_is_proven_on_record_and_without_a_trace() {
    let home = Home::initialised();
    let hub = BusyHub::start(&home.database());
    home.snapshot().exits(0);
    hub.kill();

    let said = home.drill(&[]).exits(0);
    for part in [
        "hapi.db",
        "proven",
        "not decrypted",
        "78 sessions",
        "restored in",
        "`--identity FILE`",
    ] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    assert_eq!(said.stderr, "");
    assert_eq!(scratch(&home), Vec::<PathBuf>::new());
    let record = &home.drills()[0];
    assert_eq!(
        (&record["outcome"], &record["exit"]),
        (&"proven".into(), &0.into())
    );
    assert!(record["restore-seconds"].as_f64().unwrap() > 0.0);
    let history = home.state().join("drills.jsonl");
    assert_eq!(
        fs::metadata(history).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let identity = home.identity();
    let said = home
        .drill(&["--keep", "--json", "--identity", identity.to_str().unwrap()])
        .exits(0);
    let report = said.json();
    for source in [
        "hapi.db",
        "hub.env",
        "settings.json",
        "voice-test-output",
        "plans",
    ] {
        assert_eq!(verdict(&report, source), "proven", "{report:#}");
    }
    no_canary(&home, &said);
    let kept = PathBuf::from(report["kept"].as_str().unwrap());
    for folder in [&kept, kept.parent().unwrap()] {
        assert_eq!(
            fs::metadata(folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
    let database = kept.join(home.database().strip_prefix("/").unwrap());
    assert_eq!(sqlite3(&database, "SELECT count(*) FROM messages"), "300");
    assert_eq!(home.drills().len(), 2);
}

#[test]
fn a_hub_that_has_just_been_made_is_no_difference() {
    let home = Home::initialised();
    for file in ["hapi.db", "hapi.db-wal", "hapi.db-shm"] {
        _ = fs::remove_file(home.hapi(file));
    }
    sqlite3(&home.database(), "PRAGMA user_version = 1");
    home.snapshot().exits(0);
    let report = home.drill(&["--json"]).exits(0).json();
    assert_eq!(verdict(&report, "hapi.db"), "proven");
    // With its tables, and nothing in them.
    sqlite3(
        &home.database(),
        "CREATE TABLE sessions (updated_at); CREATE TABLE messages (created_at)",
    );
    home.snapshot().exits(0);
    let report = home.drill(&["--json"]).exits(0).json();
    assert_eq!(verdict(&report, "hapi.db"), "proven");
}

#[test]
fn each_source_comes_from_the_newest_snapshot_that_holds_it_whole() {
    let home = Home::initialised();
    let said = home.drill(&[]).exits(22);
    assert!(
        said.stderr.contains("no snapshot") && said.stderr.contains("hint:"),
        "{}",
        said.stderr
    );
    assert_eq!(home.drills()[0]["exit"], 22);
    home.snapshot().exits(0);
    let said = home.drill(&["--older"]).exits(22);
    assert!(said.stderr.contains("no older snapshot"), "{}", said.stderr);

    let away = home.dir.path().join("away.db");
    fs::rename(home.database(), &away).unwrap();
    home.snapshot().exits(3);
    fs::rename(&away, home.database()).unwrap();
    let main = home.ids("hapi");
    let [whole, partial] = main.as_slice() else {
        panic!("{main:?}")
    };

    let said = home.drill(&["--json"]).exits(0);
    let report = said.json();
    let of = |source: &str| {
        let sources = report["sources"].as_array().unwrap();
        sources.iter().find(|s| s["name"] == source).unwrap()["snapshot"].clone()
    };
    assert_eq!(of("hapi.db"), whole.as_str());
    assert_eq!(of("hub.env"), partial.as_str());
    assert_eq!(of("voice-test-output"), home.ids("hapi-weekly")[0]);
    let told = format!("`hapi.db` comes from {}", &whole[..8]);
    assert!(
        said.stderr.contains(&told) && said.stderr.contains(&partial[..8]),
        "{}",
        said.stderr
    );

    let named = home.drill(&[&whole[..8], "--json"]).exits(0).json();
    assert_eq!(verdict(&named, "hapi.db"), "proven");
    assert!(
        named["sources"]
            .as_array()
            .unwrap()
            .iter()
            .all(|s| s["snapshot"] == whole.as_str())
    );
    let latest = home.drill(&["latest", "--json"]).exits(21).json();
    assert_eq!(verdict(&latest, "hapi.db"), "missing");
    assert!(
        latest["findings"]
            .to_string()
            .contains("does not have all of it"),
        "{latest}"
    );
    let older = home.drill(&["--older", "--json"]).exits(0).json();
    assert_eq!(verdict(&older, "hapi.db"), "proven");
    for (name, told) in [
        ("ffffffffff", "there is no snapshot"),
        ("abc", "there is no snapshot"),
    ] {
        let said = home.drill(&[name]).exits(22);
        assert!(
            said.stderr.contains(told) && said.stderr.contains("rustic-hapi snapshots"),
            "{}",
            said.stderr
        );
    }

    // `restic tag` writes a snapshot anew, without its description.
    home.restic(&["tag", "--add", "x"]);
    assert_ne!(home.ids("hapi"), main);
    let report = home.drill(&["--json"]).exits(0).json();
    assert_eq!(verdict(&report, "hapi.db"), "proven");
    assert_eq!(verdict(&report, "voice-test-output"), "proven");
    home.drill(&[&whole[..8]]).exits(0);

    // `original` is the id that a snapshot had before it was written anew: it names it, too.
    let first = home.engine().get_all_snapshots().unwrap()[0].id;
    home.forge(|snapshots| snapshots.iter_mut().for_each(|s| s.original = Some(first)));
    let said = home.drill(&[&first.to_hex()[..8]]).exits(22);
    assert!(
        said.stderr.contains("is the beginning of 3 ids")
            && said.stderr.contains("more digits of it"),
        "{}",
        said.stderr
    );
}

#[test]
fn secrets_are_proven_with_whatever_opens_them() {
    let home = Home::new();
    let key = home.dir.path().join("key");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    run(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "me@here",
            "-f",
            &text(&key),
        ]
        .map(OsStr::new),
    );
    let public = fs::read_to_string(home.dir.path().join("key.pub")).unwrap();
    home.hapi_command(&[
        "init",
        "--repository",
        &text(&home.repository()),
        "--allow-same-disk",
        "--recipient",
        &home.recipient,
        "--recipient",
        public.trim(),
    ])
    .exits(0);
    home.snapshot().exits(0);

    let report = home
        .drill(&["--json", "--identity", &text(&key)])
        .exits(0)
        .json();
    assert_eq!(verdict(&report, "hub.env"), "proven");

    // One that is encrypted asks on the terminal, and only there.
    let locked = home.dir.path().join("locked.age");
    let mut age = Command::new("age");
    age.args(["-p", "-o"]).arg(&locked).arg(home.identity());
    let phrase = "correct horse battery";
    on_terminal(
        &age,
        &[("Enter passphrase", phrase), ("Confirm passphrase", phrase)],
    )
    .exits(0);
    let mut drill = home.command();
    drill.args(["drill", "--identity"]).arg(&locked);
    let said = on_terminal(&drill, &[("passphrase of", phrase)]).exits(0);
    assert!(
        said.stdout.contains("proven") && !said.stdout.contains("not decrypted"),
        "{}",
        said.stdout
    );
    assert!(!said.stdout.contains(phrase));
    no_canary(&home, &said);
    on_terminal(&drill, &[("passphrase of", "wrong")]).exits(2);
    let said = home.drill(&["--identity", &text(&locked)]).exits(2);
    assert!(said.stderr.contains("hint:"), "{}", said.stderr);

    let other = home.dir.path().join("other.txt");
    run("age-keygen", &["-o".as_ref(), other.as_os_str()]);
    let said = home
        .drill(&["--keep", "--identity", &text(&other)])
        .exits(22);
    assert!(
        said.stdout.contains("NOT DECRYPTED")
            && !said.stdout.contains("DIFFERENT")
            && said.stderr.contains("this identity cannot decrypt it"),
        "{said:?}"
    );
    no_canary(&home, &said);
    assert_eq!(home.drills().last().unwrap()["outcome"], "failed");
    // One of several is enough.
    let right = home.identity();
    let both = [
        "--identity",
        &text(&other),
        "--identity",
        right.to_str().unwrap(),
    ];
    let said = home.drill(&both).exits(0);
    assert!(!said.stdout.contains("not decrypted"), "{said:?}");
}

#[test]
fn a_machine_with_only_repository_and_password_is_enough() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let said = Said::from(home.bare(&["drill", "--json"]).output().unwrap()).exits(0);
    assert_eq!(verdict(&said.json(), "hapi.db"), "proven");
    assert_eq!(verdict(&said.json(), "voice-test-output"), "proven");
    let target = home.dir.path().join("rescued");
    let args = ["restore", "--target", target.to_str().unwrap()];
    Said::from(home.bare(&args).output().unwrap()).exits(0);
    assert_eq!(
        sqlite3(
            &below(&target, &home.database()),
            "SELECT count(*) FROM sessions"
        ),
        "78"
    );

    // A second machine's snapshots in the same repository.
    let notes = home.dir.path().join("notes.txt");
    fs::write(&notes, "of another host\n").unwrap();
    let source = format!("[[source]]\nname = \"notes\"\nkind = \"file\"\npath = {notes:?}\n");
    let other = home.write_profile("other", &source);
    home.hapi_command(&["snapshot", "--profile", other.to_str().unwrap()])
        .exits(0);
    let said = Said::from(home.bare(&["drill"]).output().unwrap()).exits(2);
    assert!(
        said.stderr.contains("several hosts") && said.stderr.contains("test"),
        "{}",
        said.stderr
    );
    let said = Said::from(
        home.bare(&["drill", "--json", "--host", "test"])
            .output()
            .unwrap(),
    )
    .exits(0);
    assert_eq!(said.json()["sources"].as_array().unwrap().len(), 1);
    home.drill(&["--host", "nobody"]).exits(2);
    assert_eq!(
        verdict(&home.drill(&["--json"]).exits(0).json(), "hapi.db"),
        "proven"
    );
}

fn below(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap())
}

fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_boot_tells_whether_the_hub_comes_up_and_leaves_nothing_running() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let pids = home.dir.path().join("pids");
    let started = || {
        let text = fs::read_to_string(&pids).unwrap();
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let report = home
        .drill(&["--json", "--boot", "test -f \"$HAPI_HOME/hapi.db\" && test \"$DB_PATH\" = \"$HAPI_HOME/hapi.db\" && test -z \"$RUSTIC_HAPI_X\""])
        .exits(0)
        .json();
    assert_eq!(report["boot"]["up"], true);
    let said = home.drill(&["--boot", "false"]).exits(21);
    assert!(
        said.stderr
            .contains("did not come up: it ended with status 1"),
        "{}",
        said.stderr
    );

    let serve = format!(
        "sleep 300 & echo $! $$ > {pids:?}; python3 -m http.server --bind 127.0.0.1 $PORT & echo $! >> {pids:?}; wait"
    );
    let said = home.drill(&["--boot", &serve]).exits(0);
    assert!(said.stdout.contains("came up"), "{}", said.stdout);
    assert_eq!(started().len(), 3);
    assert!(
        !started().iter().any(|pid| is_running(pid)),
        "{:?}",
        started()
    );

    let hangs = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >> {}; exec sleep 300' & echo $$ > {pids:?}; wait",
        pids.display()
    );
    let said = home
        .drill(&["--boot", &hangs, "--boot-wait", "2s"])
        .exits(21);
    assert!(
        said.stderr.contains("after 2 s it neither listened"),
        "{}",
        said.stderr
    );
    assert!(
        !started().iter().any(|pid| is_running(pid)),
        "{:?}",
        started()
    );
    assert_eq!(scratch(&home), Vec::<PathBuf>::new());

    // The end asked for while the hub starts: no verdict, and nothing left.
    let drills = home.drills().len();
    fs::remove_file(&pids).unwrap();
    let waits = format!("echo $$ > {pids:?}; exec sleep 300");
    let mut drill = home.command();
    drill.args(["drill", "--boot", &waits]);
    let child = drill
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !pids.exists() && began.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(100));
    assert_eq!(scratch(&home).len(), 1);
    run("kill", &["-TERM".as_ref(), child.id().to_string().as_ref()]);
    let said = Said::from(child.wait_with_output().unwrap()).exits(143);
    assert!(!said.stdout.contains("proven"), "{}", said.stdout);
    assert!(!is_running(&started()[0]));
    assert_eq!(scratch(&home), Vec::<PathBuf>::new());
    assert_eq!(home.drills().len(), drills);
}

#[test]
fn what_keeps_a_drill_from_running_is_told_as_such() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let told = |said: Said, parts: &[&str]| {
        let said = said.exits(22);
        for part in parts {
            assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
        }
        assert!(!said.stdout.contains("proven"), "{}", said.stdout);
    };
    let disk = Tmpfs::mount(home.dir.path().join("small"), "size=200k,mode=700");
    let small = home.dir.path().join("small");
    told(
        home.drill(&["--keep", "--scratch", small.to_str().unwrap()]),
        &["small", "bytes free", "hint: make room"],
    );
    assert_eq!(fs::read_dir(&small).unwrap().count(), 0);
    drop(disk);

    // The scratch folder may be anywhere, beside other people's.
    let notes = home.dir.path().join("run-notes");
    fs::create_dir(&notes).unwrap();
    home.drill(&["--scratch", home.dir.path().to_str().unwrap()])
        .exits(0);
    assert!(notes.exists());

    let password = fs::read(home.password()).unwrap();
    fs::write(home.password(), "wrong\n").unwrap();
    told(
        home.drill(&[]),
        &["does not open", "hint: put the password"],
    );
    fs::write(home.password(), password).unwrap();

    let away = home.dir.path().join("away");
    fs::rename(home.repository(), &away).unwrap();
    told(home.drill(&[]), &["no repository", "mounted"]);
    // Another one, with the same password, where ours should be.
    home.restic(&["init"]);
    told(
        home.drill(&[]),
        &["the profile names", "hint: is another disk mounted there?"],
    );
    let records = home.drills();
    assert!(
        records.iter().filter(|r| r["outcome"] == "failed").count() >= 4,
        "{records:?}"
    );
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x40;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(file, bytes).unwrap();
}

#[test]
fn every_damage_is_found_and_nothing_damaged_is_restored() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    sqlite3(&home.database(), "DELETE FROM messages WHERE rowid % 4 = 0");
    fs::remove_file(home.path().join("coding/hapi/docs/plans/ignored.md")).unwrap();
    home.snapshot().exits(0);
    let sound = home.dir.path().join("sound");
    copy(&home.repository(), &sound);
    let kept = |folder: &str| files_below(&home.repository().join(folder));
    let packs = kept("data");
    let largest = packs.iter().max_by_key(|(_, size)| *size).unwrap().clone();
    let newest = |files: Vec<(PathBuf, u64)>| {
        let mut files: Vec<PathBuf> = files.into_iter().map(|(path, _)| path).collect();
        files.sort_by_key(|p| fs::metadata(p).unwrap().modified().unwrap());
        files.pop().unwrap()
    };
    let swap = |forge: &mut Vec<rustic_core::repofile::SnapshotFile>| {
        let of = |tag: &str| forge.iter().filter(|s| s.tags.contains(tag)).count();
        assert_eq!(of("hapi"), 2);
        let main: Vec<usize> = (0..forge.len())
            .filter(|n| forge[*n].tags.contains("hapi"))
            .collect();
        let tree = forge[main[0]].tree;
        forge[main[0]].tree = forge[main[1]].tree;
        forge[main[1]].tree = tree;
    };
    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>, &'a [i32], &'a str);
    let damages: Vec<Damage<'_>> = vec![
        (
            "a byte of a pack",
            Box::new(|| flip(&newest(kept("data")), 100)),
            &[21],
            "cannot be read",
        ),
        (
            "a byte in the middle",
            Box::new(|| {
                let pack = newest(kept("data"));
                flip(&pack, fs::metadata(&pack).unwrap().len() as usize / 2)
            }),
            &[21],
            "cannot be read",
        ),
        (
            "a pack cut short",
            Box::new(|| {
                let file = fs::File::options().write(true).open(&largest.0).unwrap();
                file.set_len(largest.1 / 2).unwrap();
            }),
            &[21],
            "cannot be read",
        ),
        (
            "a pack missing",
            Box::new(|| fs::remove_file(&largest.0).unwrap()),
            &[21],
            "cannot be read",
        ),
        (
            "all packs missing",
            Box::new(|| packs.iter().for_each(|(p, _)| fs::remove_file(p).unwrap())),
            &[21],
            "cannot be",
        ),
        (
            "an index missing",
            Box::new(|| fs::remove_file(newest(kept("index"))).unwrap()),
            &[21],
            "cannot be",
        ),
        (
            "an index damaged",
            Box::new(|| flip(&newest(kept("index")), 50)),
            &[22],
            "restic repair index",
        ),
        (
            "a snapshot file damaged",
            Box::new(|| flip(&newest(kept("snapshots")), 50)),
            &[21],
            "snapshot file",
        ),
        (
            "a snapshot file empty",
            Box::new(|| fs::write(newest(kept("snapshots")), "").unwrap()),
            &[21],
            "snapshot file",
        ),
        (
            "the key damaged",
            Box::new(|| flip(&newest(kept("keys")), 40)),
            &[22],
            "damaged key file",
        ),
        (
            "the key's secret damaged",
            Box::new(|| {
                let key = newest(kept("keys"));
                let mut json: Value = serde_json::from_slice(&fs::read(&key).unwrap()).unwrap();
                let data = json["data"].as_str().unwrap().to_owned();
                let first = if data.starts_with('A') { "B" } else { "A" };
                json["data"] = format!("{first}{}", &data[1..]).into();
                fs::write(&key, json.to_string()).unwrap();
            }),
            &[22],
            "damaged key file",
        ),
        (
            "the config damaged",
            Box::new(|| flip(&home.repository().join("config"), 50)),
            &[22],
            "Config:00000000: Data decryption failed",
        ),
        (
            "two snapshots' trees swapped",
            Box::new(|| home.forge(swap)),
            &[21],
            "not the one",
        ),
    ];
    for (name, damage, codes, told) in damages {
        fs::remove_dir_all(home.repository()).unwrap();
        copy(&sound, &home.repository());
        damage();
        let said = home.drill(&[]);
        assert!(codes.contains(&said.code), "{name}: {said:?}");
        assert!(
            said.stderr.contains(told) && said.stderr.contains("error: "),
            "{name}: {said:?}"
        );
        assert!(!said.stdout.contains("\nproven"), "{name}: {said:?}");

        // Of what comes back, each file is as it was.
        let target = home.dir.path().join("target");
        _ = fs::remove_dir_all(&target);
        let said = home.restore(&target, &[]);
        let is_harmless = name.starts_with("a snapshot file");
        assert_eq!(said.code == 0, is_harmless, "{name}: {said:?}");
        if is_harmless {
            assert!(
                said.stderr.contains("warning: the snapshot file"),
                "{}",
                said.stderr
            );
        }
        for (path, _) in files_below(&target) {
            let live = Path::new("/").join(path.strip_prefix(&target).unwrap());
            let generated = path.extension().is_some_and(|e| e == "age" || e == "db");
            if !generated && live.exists() {
                assert_eq!(
                    fs::read(&path).unwrap(),
                    fs::read(&live).unwrap(),
                    "{name}: {path:?}"
                );
            }
            if path.ends_with("hapi.db") {
                assert_eq!(sqlite3(&path, "PRAGMA integrity_check"), "ok", "{name}");
            }
        }
    }
}

#[test]
fn a_snapshot_that_cannot_say_what_it_holds_is_no_success() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let before = files_below(&home.repository().join("data"));
    fs::write(home.hapi("driver-status.json"), "{\"state\":\"new\"}\n").unwrap();
    home.snapshot().exits(0);
    home.restic(&["tag", "--add", "x"]);
    // What the newest one brought: its trees and its manifest.
    for (pack, _) in files_below(&home.repository().join("data")) {
        if !before.iter().any(|(old, _)| *old == pack) {
            fs::remove_file(pack).unwrap();
        }
    }
    let newest = home.ids("hapi").pop().unwrap();
    let said = home.drill(&[]).exits(21);
    assert!(
        said.stderr.contains(&newest[..8]) && said.stderr.contains("passed over"),
        "{said:?}"
    );
    let said = home.drill(&[&newest[..8]]).exits(22);
    assert!(
        said.stderr.contains("cannot be used") && said.stderr.contains("hint:"),
        "{said:?}"
    );

    let target = home.dir.path().join("target");
    let said = home.restore(&target, &[&newest[..8]]).exits(1);
    assert!(said.stderr.contains("cannot be used"), "{said:?}");
    assert!(!target.exists());
    let said = home.restore(&target, &[]).exits(0);
    assert!(said.stderr.contains("passed over"), "{said:?}");
}

#[test]
fn one_damaged_key_of_two_harms_nothing_or_is_named() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let first = files_below(&home.repository().join("keys")).remove(0).0;
    home.restic(&[
        "key",
        "add",
        "--new-password-file",
        home.password().to_str().unwrap(),
    ]);
    flip(&first, 40);
    let said = home.drill(&[]);
    assert!(
        said.code == 0 || (said.code == 22 && said.stderr.contains("damaged key file")),
        "{said:?}"
    );
    fs::rename(&first, home.dir.path().join("away")).unwrap();
    home.drill(&[]).exits(0);
}

#[test]
fn a_weekly_drill_is_run_once_a_week() {
    let home = Home::initialised();
    let at = |time: &str, args: &[&str]| home.at(time, args);
    for day in 1..=3 {
        at(&format!("2026-03-0{day}T06:00:00Z"), &["snapshot"]).exits(0);
    }
    let weekly = ["drill", "--weekly", "--json"];
    let first = at("2026-03-03T18:00:00Z", &weekly).exits(0).json();
    assert_eq!(first["outcome"], "proven");
    let again = at("2026-03-04T06:00:00Z", &weekly).exits(0).json();
    assert!(again["nothing-to-do"].is_string(), "{again}");
    // Six hours early it is not due; the slot of a week later is.
    at("2026-03-10T12:00:00Z", &weekly).exits(0);
    let next = at("2026-03-10T18:00:00Z", &weekly).exits(0).json();
    assert_eq!(next["outcome"], "proven");
    let drills = std::fs::read_to_string(home.state().join("drills.jsonl")).unwrap();
    assert_eq!(drills.lines().count(), 2);
}

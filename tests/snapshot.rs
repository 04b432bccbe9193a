//! The main job through the real binary: a home with everything the shipped profile names, a busy
//! hub among it, judged by stock restic, age and sqlite3.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::common::{BusyHub, CANARIES, Home, Rewriter, feed, files_with, run, sqlite3};
use serde_json::Value;

fn source<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    manifest["sources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["name"] == name)
        .unwrap_or_else(|| panic!("no source {name} in {manifest:#}"))
}

fn tags(snapshot: &Value) -> Vec<&str> {
    let mut tags: Vec<_> = snapshot["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_str().unwrap())
        .collect();
    tags.sort_unstable();
    tags
}

fn paths(source: &Value) -> Vec<String> {
    let entries = source["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|e| e["path"].as_str().unwrap_or("?").to_owned())
        .collect()
}

#[test]
fn everything_the_profile_names_arrives_whole_from_a_busy_home() {
    let home = Home::initialised();
    let hub = BusyHub::start(&home.database());
    let rewriter = Rewriter::start(home.hapi("driver-status.json"));
    let said = home.snapshot().exits(0);
    drop(rewriter);
    drop(hub);

    let report = said.json();
    let series: Vec<_> = report["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        series,
        ["hapi-weekly", "hapi"],
        "the main series comes last, so `latest` is it"
    );
    let snapshots = home.restic_snapshots();
    assert_eq!(snapshots.len(), 2);
    let paths_of = |s: &Value| s["paths"].clone();
    assert_eq!(paths_of(&snapshots[0]), paths_of(&snapshots[1]));
    assert_eq!(snapshots[0]["paths"][0], home.path().to_str().unwrap());
    let latest = home
        .restic(&["snapshots", "--json", "--latest", "1"])
        .json();
    assert!(latest.to_string().contains("\"hapi\""));
    home.restic(&["check", "--read-data"]);

    // The database opens, is sound, and holds what the report says.
    let copy = home.dir.path().join("restored.db");
    fs::write(&copy, home.dump("hapi", &home.database())).unwrap();
    assert_eq!(sqlite3(&copy, "PRAGMA integrity_check"), "ok");
    assert_eq!(sqlite3(&copy, "SELECT count(*) FROM sessions"), "78");
    assert_eq!(sqlite3(&copy, "SELECT count(*) FROM messages"), "300");
    assert!(!copy.with_extension("db-wal").exists());
    let header = fs::read(&copy).unwrap();
    assert_eq!(
        &header[18..20],
        &[1, 1],
        "a rollback-journal file opens on read-only media, too"
    );

    // Stock age opens the secret, byte for byte.
    let ciphertext = home.dump("hapi", &home.hapi("hub.env.age"));
    let identity = home.dir.path().join("identity.txt");
    let plain = feed(
        "age",
        &["-d".as_ref(), "-i".as_ref(), identity.as_os_str()],
        &ciphertext,
    );
    assert!(plain.status.success());
    assert_eq!(plain.stdout, fs::read(home.hapi("hub.env")).unwrap());

    // The link's content, the status file in one piece, and of the plans what git cannot give back.
    let link = home.path().join(".config/hapi/driver-manifest.yaml");
    assert_eq!(home.dump("hapi", &link), b"drivers:\n  - name: one\n");
    let status = home.dump("hapi", &home.hapi("driver-status.json"));
    assert!(
        serde_json::from_slice::<Value>(&status).is_ok(),
        "{:?}",
        String::from_utf8_lossy(&status)
    );
    let manifest = home.manifest("hapi");
    let mut plans: Vec<_> = paths(source(&manifest, "plans"))
        .iter()
        .map(|p| {
            Path::new(p)
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    plans.retain(|name| ["tracked.md", "modified.md", "ignored.md"].contains(&name.as_str()));
    assert_eq!(plans, ["ignored.md", "modified.md"]);

    // The weekly series holds the recordings, the empty folder among them.
    let restored = home.dir.path().join("weekly");
    home.restic(&[
        "restore",
        "latest",
        "--tag",
        "hapi-weekly",
        "--target",
        restored.to_str().unwrap(),
    ]);
    let voice = restored
        .join(home.path().strip_prefix("/").unwrap())
        .join("voice-test-output");
    assert!(voice.join("empty").is_dir());
    let wav = "hello world.wav";
    assert_eq!(
        fs::read(voice.join(wav)).unwrap(),
        fs::read(home.path().join("voice-test-output").join(wav)).unwrap()
    );
}

#[test]
fn the_same_state_makes_the_same_tree() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let report = home.snapshot().exits(0).json();
    let series = report["series"].as_array().unwrap();
    assert_eq!(
        series.len(),
        1,
        "the weekly series was complete and is not due again"
    );
    assert_eq!(series[0]["unchanged"], true, "{report:#}");
    let main: Vec<_> = home
        .restic_snapshots()
        .into_iter()
        .filter(|s| s["tags"].to_string().contains("\"hapi\""))
        .collect();
    assert_eq!(main.len(), 2);
    assert_eq!(main[0]["tree"], main[1]["tree"]);
}

#[test]
fn a_small_change_stores_little() {
    let home = Home::initialised();
    let first = home.snapshot().exits(0).json();
    sqlite3(
        &home.database(),
        "UPDATE sessions SET updated_at = updated_at + 1 WHERE rowid = 1",
    );
    let second = home.snapshot().exits(0).json();
    let added = |report: &Value| {
        let series = report["series"].as_array().unwrap();
        series.iter().find(|s| s["name"] == "hapi").unwrap()["added"]
            .as_u64()
            .unwrap()
    };
    assert!(added(&second) > 0);
    assert!(
        added(&second) * 4 < added(&first),
        "{} of {}",
        added(&second),
        added(&first)
    );
}

#[test]
fn folders_files_and_links_keep_mode_owner_and_time() {
    let home = Home::initialised();
    let attachments = home.hapi("scratchlist-attachments");
    fs::set_permissions(&attachments, fs::Permissions::from_mode(0o2750)).unwrap();
    fs::set_permissions(home.path().join(".hapi"), fs::Permissions::from_mode(0o711)).unwrap();
    let file = attachments.join("a file.bin");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    std::os::unix::fs::symlink("a file.bin", attachments.join("link")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"odd \xff\nname");
    fs::write(attachments.join(odd), "odd").unwrap();
    home.snapshot().exits(0);

    let target = home.dir.path().join("restored");
    home.restic(&[
        "restore",
        "latest",
        "--tag",
        "hapi",
        "--target",
        target.to_str().unwrap(),
    ]);
    let there = |path: &Path| target.join(path.strip_prefix("/").unwrap());
    for path in [
        &attachments,
        &file,
        &home.path().join(".hapi"),
        &home.path(),
    ] {
        let (live, back) = (
            fs::metadata(path).unwrap(),
            fs::metadata(there(path)).unwrap(),
        );
        assert_eq!(live.mode(), back.mode(), "{}", path.display());
        assert_eq!((live.uid(), live.gid()), (back.uid(), back.gid()));
    }
    let live = fs::metadata(&file).unwrap();
    assert_eq!(
        live.mtime_nsec(),
        fs::metadata(there(&file)).unwrap().mtime_nsec()
    );
    assert_eq!(
        fs::read_link(there(&attachments.join("link"))).unwrap(),
        Path::new("a file.bin")
    );
    assert_eq!(fs::read(there(&attachments.join(odd))).unwrap(), b"odd");

    // A folder above the captures has the time of the newest thing captured below it.
    let hapi = fs::metadata(there(&home.path().join(".hapi"))).unwrap();
    let newest = [
        "hapi.db",
        "hub.env.age",
        "driver-status.json",
        "settings.json.age",
    ]
    .iter()
    .map(|name| {
        fs::symlink_metadata(there(&home.hapi(name)))
            .unwrap()
            .mtime()
    })
    .chain([
        fs::symlink_metadata(&attachments).unwrap().mtime(),
        live.mtime(),
    ])
    .max();
    assert!(Some(hapi.mtime()) >= newest);
}

#[test]
fn the_description_says_what_the_manifest_says() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let listed = home.hapi_command(&["snapshots", "--json"]).exits(0).json();
    let main = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["series"] == "hapi")
        .unwrap();
    let bytes = home.dump("hapi", &home.path().join(".hapi-manifest.json"));
    let file = home.dir.path().join("manifest.json");
    fs::write(&file, &bytes).unwrap();
    let sum = run("sha256sum", &[file.as_os_str()]).stdout;
    assert_eq!(
        main["description"]["manifest"],
        sum.split(' ').next().unwrap()
    );
    let database = &main["description"]["sources"]["hapi.db"];
    assert_eq!(database["outcome"], "complete");
    assert_eq!(database["rows"]["sessions"], 78);
    assert_eq!(database["rows"]["fcm_devices"], Value::Null);

    // Every file of the manifest is in the snapshot, with its size and hash.
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let mut files = 0;
    for entry in manifest["sources"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|s| s["entries"].as_array().unwrap())
    {
        if entry["type"] != "file" {
            continue;
        }
        files += 1;
        let content = home.dump("hapi", Path::new(entry["path"].as_str().unwrap()));
        assert_eq!(entry["size"], content.len());
        fs::write(&file, &content).unwrap();
        let sum = run("sha256sum", &[file.as_os_str()]).stdout;
        assert_eq!(entry["sha256"], sum.split(' ').next().unwrap(), "{entry}");
    }
    assert!(files >= 8, "{files}");
    assert!(
        !manifest.to_string().contains("time"),
        "a manifest has no clock"
    );
}

#[test]
fn a_source_that_fails_makes_a_partial_snapshot_of_the_rest() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    fs::remove_file(home.hapi("hub.env")).unwrap();
    let said = home.snapshot().exits(3);
    assert!(said.stderr.contains("hub.env"), "{}", said.stderr);
    assert!(said.stderr.contains("hint:"), "{}", said.stderr);
    let newest = home.restic_snapshots().pop().unwrap();
    assert_eq!(tags(&newest), ["hapi", "partial"]);
    let manifest = home.manifest("hapi");
    assert_eq!(source(&manifest, "hub.env")["outcome"], "failed");
    assert_eq!(source(&manifest, "hapi.db")["outcome"], "complete");
}

#[test]
fn nothing_captured_is_no_snapshot() {
    let home = Home::initialised();
    let profile = home.write_profile(
        "lonely",
        "[[source]]\nname = \"gone\"\npath = \"~/not/there\"\nkind = \"file\"\n",
    );
    let said = home
        .hapi_command(&["--profile", profile.to_str().unwrap(), "snapshot"])
        .exits(1);
    assert!(said.stderr.contains("not/there"), "{}", said.stderr);
    let remedy = "correct its path";
    assert!(said.stderr.contains(remedy), "{}", said.stderr);
    assert!(home.restic_snapshots().is_empty());
}

#[test]
fn a_damaged_database_is_kept_and_told_loudly() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let sound = home.restic_snapshots().pop().unwrap();
    // Zero a page in the middle, with nobody at the database.
    sqlite3(&home.database(), "PRAGMA wal_checkpoint(TRUNCATE)");
    let mut bytes = fs::read(home.database()).unwrap();
    let middle = bytes.len() / 4096 / 2 * 4096;
    bytes[middle..middle + 4096].fill(0);
    fs::write(home.database(), &bytes).unwrap();

    let said = home.snapshot().exits(3);
    assert!(said.stderr.contains("DAMAGED"), "{}", said.stderr);
    let newest = home.restic_snapshots().pop().unwrap();
    assert_eq!(tags(&newest), ["damaged", "hapi", "partial"]);
    assert!(home.dump("hapi", &home.database()).len() >= bytes.len() / 2);
    let plan = home.hapi_command(&["forget", "--dry-run"]).exits(0).stdout;
    let pinned = plan
        .lines()
        .find(|l| l.contains("last good one before damaged"))
        .expect(&plan);
    assert!(
        pinned.contains(&sound["short_id"].as_str().unwrap()[..8]),
        "{plan}"
    );
}

/// A secret that was emptied, a file of no bytes and a source that is gone were saved as complete, until
/// retention had removed the last snapshot with their content.
#[test]
fn what_is_emptied_or_gone_is_tagged_shrunk_and_what_was_there_is_pinned() {
    type Loss = (&'static str, fn(&Home));
    let losses: [Loss; 3] = [
        ("hub.env went from", |home| {
            fs::write(home.hapi("hub.env"), "").unwrap();
        }),
        ("driver-status went from", |home| {
            fs::write(home.hapi("driver-status.json"), "").unwrap();
        }),
        ("settings.json no longer exists", |home| {
            fs::remove_file(home.hapi("settings.json")).unwrap();
        }),
    ];
    for (told, lose) in losses {
        let home = Home::initialised();
        let sound = home.snapshot().exits(0);
        assert!(!sound.stderr.contains("shrunk"), "{}", sound.stderr);
        lose(&home);
        let said = home.snapshot().exits(0);
        assert!(said.stderr.contains(told), "{told}: {}", said.stderr);
        let newest = home.restic_snapshots().pop().unwrap();
        assert!(newest["tags"].to_string().contains("shrunk"));
        let plan = home.hapi_command(&["forget", "--dry-run"]).exits(0).stdout;
        assert!(plan.contains("before shrunk"), "{plan}");
    }
}

#[test]
fn a_database_that_lost_its_rows_is_tagged_shrunk() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    sqlite3(&home.database(), "DELETE FROM messages");
    let said = home.snapshot().exits(0);
    assert!(said.stderr.contains("300 to 0 rows"), "{}", said.stderr);
    let newest = home.restic_snapshots().pop().unwrap();
    assert!(newest["tags"].to_string().contains("shrunk"));
    // Still so, until it is accepted, and told once.
    let again = home.snapshot().exits(0);
    assert!(!again.stderr.contains("shrunk"), "{}", again.stderr);
    let newest = home.restic_snapshots().pop().unwrap();
    assert!(newest["tags"].to_string().contains("shrunk"));
    let id = home.restic_snapshots().pop().unwrap()["id"]
        .as_str()
        .unwrap()[..8]
        .to_owned();
    home.edit_profile(|text| format!("{text}\n[retention]\nacknowledged = [\"{id}\"]\n"));
    let accepted = home.snapshot().exits(0);
    assert!(!accepted.stderr.contains("shrunk"), "{}", accepted.stderr);
    let newest = home.restic_snapshots().pop().unwrap();
    assert!(!newest["tags"].to_string().contains("shrunk"));
}

/// `[b]` in the name of a home was a pattern: another home's hub was taken, and called complete.
#[test]
fn the_name_of_a_home_is_no_pattern() {
    let home = Home::new();
    let odd = home.path().with_file_name("a[b]{c}?*");
    fs::rename(home.path(), &odd).unwrap();
    // A link to where it was.
    let link = odd.join(".config/hapi/driver-manifest.yaml");
    fs::remove_file(&link).unwrap();
    fs::write(link, "a: b").unwrap();
    for other in ["ab{c}x", "abcx", "abcxy"] {
        let other = home.path().with_file_name(other).join(".hapi");
        fs::create_dir_all(&other).unwrap();
        fs::copy(odd.join(".hapi/hapi.db"), other.join("hapi.db")).unwrap();
        sqlite3(&other.join("hapi.db"), "DELETE FROM messages");
    }
    let run = |command: &mut std::process::Command| -> crate::common::Said {
        command.env("HOME", &odd).output().unwrap().into()
    };
    let repository = home.repository();
    run(&mut home.init_command(repository.to_str().unwrap())).exits(0);
    run(home.command().args(["snapshot", "--json"])).exits(0);
    let plan = run(home
        .command()
        .args(["restore", "--dry-run", "--json", "--target", "out"]))
    .exits(0)
    .json();
    let sources = plan["sources"].as_array().unwrap();
    let of = |name: &str| sources.iter().find(|s| s["name"] == name).unwrap();
    let database = odd.join(".hapi/hapi.db");
    assert_eq!(of("hapi.db")["files"][0], database.to_str().unwrap());
    assert_eq!(of("plans")["files"].as_array().unwrap().len(), 6, "{plan}");
}

/// A missing file that nobody acknowledged silenced the loss of all messages a month later, and retention removed every
/// snapshot that had them.
#[test]
fn a_loss_that_nobody_acknowledged_hides_no_later_one() {
    let home = Home::initialised();
    let on = |day: u32, args: &[&str]| {
        let (month, day) = (1 + day / 28, 1 + day % 28);
        home.at(&format!("2031-{month:02}-{day:02}T06:00:00Z"), args)
    };
    let newest = || home.ids("hapi").pop().unwrap()[..8].to_owned();
    on(0, &["snapshot"]).exits(0);
    let first = newest();
    fs::remove_file(home.hapi("settings.json")).unwrap();
    let said = on(1, &["snapshot"]).exits(0);
    assert!(
        said.stderr.contains("settings.json no longer exists"),
        "{said:?}"
    );
    sqlite3(
        &home.database(),
        "DELETE FROM messages WHERE rowid % 10 = 0",
    );
    let said = on(19, &["snapshot"]).exits(0);
    assert!(!said.stderr.contains("shrunk"), "{said:?}");
    on(20, &["snapshot"]).exits(0);
    let full = newest();
    sqlite3(&home.database(), "DELETE FROM messages WHERE rowid % 3 > 0");
    let said = on(21, &["-q", "snapshot"]).exits(0);
    assert!(
        said.stderr.contains("table messages of hapi.db went from"),
        "{said:?}"
    );
    let a_third = newest();
    sqlite3(
        &home.database(),
        "DELETE FROM messages; DELETE FROM sessions",
    );
    let said = on(22, &["-q", "snapshot"]).exits(0);
    assert!(said.stderr.contains("to 0 rows"), "{said:?}");
    for day in (23..140).step_by(2) {
        let said = on(day, &["-q", "snapshot"]).exits(0);
        assert!(!said.stderr.contains("shrunk"), "{said:?}");
    }
    let ids = home.ids("hapi").join(" ");
    assert!(ids.contains(&full) && ids.contains(&a_third), "{ids}");
    // All is as it was before the database lost anything, and the settings as they were before they went.
    let plan = on(140, &["restore", "--dry-run", "--json", "--target", "out"]).exits(0);
    let from = |source: &str| {
        let sources = plan.json()["sources"].as_array().unwrap().clone();
        let one = sources.into_iter().find(|s| s["name"] == source).unwrap();
        one["snapshot"].as_str().unwrap()[..8].to_owned()
    };
    assert_eq!(from("hapi.db"), full);
    assert_eq!(from("hub.env"), full);
    assert_eq!(from("settings.json"), first);
    // Acknowledged, nothing is pinned any more.
    let last = newest();
    home.edit_profile(|text| format!("{text}\n[retention]\nacknowledged = [\"{last}\"]\n"));
    on(141, &["-q", "snapshot"]).exits(0);
    let ids = home.ids("hapi").join(" ");
    assert!(!ids.contains(&full) && !ids.contains(&a_third), "{ids}");
}

#[test]
fn only_and_tagged_snapshots_carry_their_tags() {
    let home = Home::initialised();
    home.hapi_command(&["snapshot", "--only", "plans"]).exits(0);
    let only = home.restic_snapshots().pop().unwrap();
    assert_eq!(tags(&only), ["hapi", "only"]);
    // It satisfies nothing: both series are still to be taken.
    let args = [
        "snapshot",
        "--json",
        "--tag",
        "before-upgrade",
        "--keep",
        "60d",
    ];
    let report = home.hapi_command(&args).exits(0).json();
    assert_eq!(report["series"].as_array().unwrap().len(), 2);
    let tagged = home.restic_snapshots().pop().unwrap();
    assert_eq!(tags(&tagged), ["before-upgrade", "hapi"]);
    let plan = home.hapi_command(&["forget", "--dry-run"]).exits(0).stdout;
    assert!(plan.contains("kept by --keep"), "{plan}");
    home.hapi_command(&["snapshot", "--only", "nonsense"])
        .exits(2);
    home.hapi_command(&["snapshot", "--keep", "60d"]).exits(2);
}

#[test]
fn a_dry_run_writes_nothing() {
    let home = Home::initialised();
    let before = run("du", &["-sb".as_ref(), home.repository().as_os_str()]).stdout;
    home.hapi_command(&["snapshot", "--dry-run"]).exits(0);
    assert_eq!(
        before,
        run("du", &["-sb".as_ref(), home.repository().as_os_str()]).stdout
    );
}

#[test]
fn the_weekly_series_is_taken_once_a_week_in_local_time() {
    let home = Home::initialised();
    let taken = |time: &str| -> Vec<String> {
        let report = home.at(time, &["snapshot", "--json"]).exits(0).json();
        let series = report["series"].as_array().unwrap().clone();
        series
            .iter()
            .map(|s| s["name"].as_str().unwrap().to_owned())
            .collect()
    };
    // 2026-03-01 is a Sunday.
    assert_eq!(
        taken("2026-02-28T18:00:00Z"),
        ["hapi-weekly", "hapi"],
        "never taken yet"
    );
    assert_eq!(taken("2026-03-01T05:59:00Z"), ["hapi"], "before the slot");
    assert_eq!(taken("2026-03-01T06:00:00Z"), ["hapi-weekly", "hapi"]);
    assert_eq!(taken("2026-03-01T18:00:00Z"), ["hapi"]);
    assert_eq!(taken("2026-03-07T18:00:00Z"), ["hapi"]);
    assert_eq!(
        taken("2026-03-10T06:00:00Z"),
        ["hapi-weekly", "hapi"],
        "late, but once"
    );
    assert_eq!(taken("2026-03-10T18:00:00Z"), ["hapi"]);
}

#[test]
fn staging_is_private_empty_after_a_run_and_swept_after_a_kill() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let staging = home.state().join("staging");
    assert_eq!(fs::metadata(&staging).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);

    // Killed while it stages: what is left is swept by the next run.
    let mut killed = 0;
    for wait in [20u64, 40, 60, 80, 120, 160, 240, 320, 450, 600] {
        let mut child = home.command().arg("snapshot").spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        killed += fs::read_dir(&staging).unwrap().count();
        // The lock that it left is stale, since its process is gone.
        home.restic(&["unlock"]);
        home.restic(&["check"]);
    }
    assert!(killed > 0, "no kill hit a run that was staging");
    home.snapshot().exits(0);
    assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn sigterm_ends_a_run_with_143_and_no_snapshot() {
    let home = Home::initialised();
    let hub = BusyHub::start(&home.database());
    home.snapshot().exits(0);
    let began = std::time::Instant::now();
    home.snapshot().exits(0);
    let whole_run = began.elapsed();
    let mut seen = false;
    for percent in [30, 45, 60, 75, 90] {
        let before = home.restic_snapshots().len();
        let mut child = home.command().arg("snapshot").spawn().unwrap();
        std::thread::sleep(whole_run * percent / 100);
        let pid = child.id().to_string();
        run("kill", &["-TERM".as_ref(), pid.as_ref()]);
        let code = child.wait().unwrap().code();
        if code == Some(143) {
            seen = true;
            assert_eq!(
                fs::read_dir(home.state().join("staging")).map_or(0, Iterator::count),
                0
            );
        } else {
            assert_eq!(code, Some(0), "ended before the signal");
            assert!(home.restic_snapshots().len() > before);
        }
    }
    assert!(seen, "no signal hit a run");
    drop(hub);
    home.restic(&["check"]);
}

#[test]
fn two_runs_do_not_meet() {
    let home = Home::initialised();
    let mut first = home.command().arg("snapshot").spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(60));
    let second = home.hapi_command(&["snapshot"]);
    if second.code == 11 {
        assert!(
            second.stderr.contains(&first.id().to_string()),
            "{}",
            second.stderr
        );
    } else {
        assert_eq!(second.code, 0, "{second:?}");
    }
    home.hapi_command(&["snapshot", "--lock-wait", "60s"])
        .exits(0);
    assert!(first.wait().unwrap().success());
    home.restic(&["check"]);
}

#[test]
fn canaries_are_nowhere_but_in_the_live_secrets() {
    let home = Home::initialised();
    // A plan quotes a key, a copy of the file lies in a folder that is taken.
    let plan = home.path().join("coding/hapi/docs/plans/leak.md");
    fs::write(&plan, format!("use {} for it\n", CANARIES[0])).unwrap();
    fs::copy(
        home.hapi("hub.env"),
        home.hapi("scratchlist-attachments/copy.env"),
    )
    .unwrap();
    fs::hard_link(
        home.hapi("hub.env"),
        home.hapi("scratchlist-attachments/linked.env"),
    )
    .unwrap();

    let first = home.snapshot().exits(0);
    assert!(
        first.stderr.contains("leak.md") && first.stderr.contains("quotes"),
        "{}",
        first.stderr
    );
    assert!(
        first.stderr.contains("copy.env") && first.stderr.contains("linked.env"),
        "{}",
        first.stderr
    );
    let second = home.snapshot().exits(0);
    assert!(
        !second.stderr.contains("quotes"),
        "told once per content: {}",
        second.stderr
    );
    for said in [&first, &second] {
        for canary in CANARIES {
            assert!(!said.stdout.contains(canary) && !said.stderr.contains(canary));
        }
    }
    let paths_taken = paths(source(&home.manifest("hapi"), "scratchlist-attachments")).join(" ");
    assert!(
        !paths_taken.contains("copy.env") && !paths_taken.contains("linked.env"),
        "{paths_taken}"
    );

    // The search finds one where one is, and nowhere else: not in what restic restores, not in
    // state, cache or staging.
    let target = home.dir.path().join("restored");
    home.restic(&[
        "restore",
        "latest",
        "--tag",
        "hapi",
        "--target",
        target.to_str().unwrap(),
    ]);
    let found = files_with(&target, CANARIES[0]);
    assert_eq!(
        found.len(),
        1,
        "the plan that quotes it, and only that: {found:?}"
    );
    assert!(files_with(&target, CANARIES[1]).is_empty());
    for canary in CANARIES {
        assert!(files_with(&home.path().join(".local"), canary).is_empty());
        assert!(files_with(&home.path().join(".config"), canary).is_empty());
        assert!(files_with(&home.repository(), canary).is_empty());
        assert!(!files_with(&home.path().join(".hapi"), canary).is_empty());
    }
}

#[test]
fn a_copy_of_a_secret_is_found_in_whatever_part_of_the_profile_is_taken() {
    let home = Home::initialised();
    // In the weekly series, which has no secrets of its own; and in a run of one source.
    for folder in [
        home.path().join("voice-test-output"),
        home.hapi("scratchlist-attachments"),
    ] {
        fs::copy(home.hapi("hub.env"), folder.join("notes.txt")).unwrap();
    }
    home.hapi_command(&["snapshot", "--only", "scratchlist-attachments"])
        .exits(0);
    home.snapshot().exits(0);
    // And where secrets are not taken at all.
    let recipients = format!("recipients = [{:?}]", home.recipient);
    home.edit_profile(|text| text.replace(&recipients, "recipients = []\nskip = true"));
    let said = home.snapshot().exits(0);
    assert!(said.stderr.contains("hub.env"), "{}", said.stderr);
    assert!(!home.manifest("hapi").to_string().contains("hub.env.age"));
    for (n, snapshot) in home.restic_snapshots().iter().enumerate() {
        let target = home.dir.path().join(format!("restored-{n}"));
        let id = snapshot["id"].as_str().unwrap();
        home.restic(&["restore", id, "--target", target.to_str().unwrap()]);
        for canary in CANARIES {
            assert!(files_with(&target, canary).is_empty(), "{snapshot}");
        }
    }
}

#[test]
fn output_is_one_line_for_cron_and_nothing_when_quiet() {
    let home = Home::initialised();
    let said = home.hapi_command(&["snapshot"]).exits(0);
    assert_eq!(said.stdout.lines().count(), 1, "{}", said.stdout);
    assert!(said.stdout.contains("78 sessions"), "{}", said.stdout);
    assert!(!said.stdout.contains('\x1b'));
    // The hub of these tests has not been written to for long.
    let told: Vec<&str> = said.stderr.lines().collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("is it the database"), "{told:?}");
    assert_eq!(
        told[1],
        "warning: the repository is on the same disk as the sources: it is the same file system"
    );
    let quiet = home.hapi_command(&["-q", "snapshot"]).exits(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
}

#[test]
fn env_opens_the_same_repository_with_restic() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let env = home.hapi_command(&["env"]).exits(0).stdout;
    let script = format!("{env} restic --no-cache snapshots --json");
    let listed = run("sh", &["-c".as_ref(), script.as_ref()]).json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[test]
fn where_two_sources_meet_the_manifest_says_what_the_snapshot_holds() {
    let home = Home::initialised();
    // A stray file where the ciphertext goes, and a manifest that was restored into the home.
    fs::write(home.hapi("hub.env.age"), "stray").unwrap();
    fs::write(home.path().join(".hapi-manifest.json"), "old").unwrap();
    // A link in a folder where a pattern has what lies behind it.
    fs::create_dir(home.path().join("real")).unwrap();
    fs::write(home.path().join("real/one.md"), "one").unwrap();
    std::os::unix::fs::symlink("../real", home.hapi("plans")).unwrap();
    let profile = home.write_profile(
        "meet",
        "[[source]]\nname = \"all\"\npath = \"~\"\nkind = \"dir\"\n\
         [[source]]\nname = \"hapi.db\"\npath = \"~/.hapi/hapi.db\"\nkind = \"sqlite\"\n\
         [[source]]\nname = \"hub.env\"\npath = \"~/.hapi/hub.env\"\nkind = \"secret\"\n\
         [[source]]\nname = \"plans\"\npath = \"~/.hapi/plans/*.md\"\nkind = \"glob\"\n",
    );
    let said = home
        .hapi_command(&["--profile", profile.to_str().unwrap(), "snapshot"])
        .exits(3);
    assert!(
        said.stderr.contains("belongs to the source `hub.env`"),
        "{}",
        said.stderr
    );
    home.restic(&["check", "--read-data"]);

    // Each entry of the manifest once, and just so in the snapshot.
    let manifest = home.manifest("meet");
    let mut seen = std::collections::BTreeSet::new();
    for entry in manifest["sources"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|s| s["entries"].as_array().unwrap())
    {
        let path = entry["path"].as_str().unwrap();
        assert!(seen.insert(path.to_owned()), "{path} twice");
        if entry["type"] == "file" {
            assert_eq!(
                entry["size"],
                home.dump("meet", Path::new(path)).len(),
                "{path}"
            );
        }
    }
    let ciphertext = home.dump("meet", &home.hapi("hub.env.age"));
    assert!(ciphertext.starts_with(b"age-encryption.org/"));
    // Nothing of the program's own, least of all a password.
    let listing = home.restic(&["ls", "latest"]).stdout;
    for own in [
        "rustic-hapi/hapi.password",
        "/staging",
        "secrets/key",
        "/locks",
    ] {
        assert!(!listing.contains(own), "{own} is in {listing}");
    }
}

#[test]
fn a_secret_replaced_by_rename_is_never_taken_in_clear() {
    let home = Home::initialised();
    let profile = home.write_profile(
        "rename",
        "[[source]]\nname = \"hub.env\"\npath = \"~/.hapi/hub.env\"\nkind = \"secret\"\n\
         [[source]]\nname = \"hapi\"\npath = \"~/.hapi\"\nkind = \"dir\"\n\
         [[source]]\nname = \"hapi.db\"\npath = \"~/.hapi/hapi.db\"\nkind = \"sqlite\"\n",
    );
    let path = home.hapi("hub.env");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                n += 1;
                // Beside the folder, as a temporary name in it would be another file of it.
                let temporary = home.path().join("hub.env.new");
                fs::write(&temporary, format!("API_KEY={}{n:06}\n", CANARIES[0])).unwrap();
                fs::rename(&temporary, &path).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        });
        for _ in 0..6 {
            home.hapi_command(&["--profile", profile.to_str().unwrap(), "snapshot"]);
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    for (n, snapshot) in home.restic_snapshots().iter().enumerate() {
        let target = home.dir.path().join(format!("restored-{n}"));
        let id = snapshot["id"].as_str().unwrap();
        home.restic(&["restore", id, "--target", target.to_str().unwrap()]);
        assert!(files_with(&target, CANARIES[0]).is_empty());
    }
}

#[test]
fn a_pack_of_an_earlier_run_that_is_gone_is_noticed() {
    let home = Home::initialised();
    home.snapshot().exits(0);
    let mut packs: Vec<_> = fs::read_dir(home.repository().join("data"))
        .unwrap()
        .flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap())
        .map(|f| f.unwrap().path())
        .collect();
    packs.sort_by_key(|p| fs::metadata(p).unwrap().len());
    let largest = packs.pop().unwrap();
    let aside = home.dir.path().join("pack");
    fs::rename(&largest, &aside).unwrap();
    let said = home.snapshot().exits(1);
    assert!(said.stderr.contains("earlier run"), "{}", said.stderr);
    assert_eq!(
        home.restic_snapshots().len(),
        2,
        "what is not proven is not there"
    );
    fs::rename(&aside, &largest).unwrap();
    home.snapshot().exits(0);
}

#[test]
fn optional_sources_that_are_absent_fail_no_series() {
    let home = Home::initialised();
    fs::remove_dir_all(home.path().join("voice-test-output")).unwrap();
    home.edit_profile(|text| {
        format!("{text}\n[[source]]\nname = \"voice-test-output\"\npath = \"~/voice-test-output\"\nkind = \"dir\"\nseries = \"hapi-weekly\"\nrequired = false\n")
    });
    for _ in 0..2 {
        let report = home.snapshot().exits(0).json();
        assert_eq!(report["series"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_series_that_was_not_taken_for_a_signal_is_named_and_not_complete() {
    let home = Home::initialised();
    let lookup = rustic_hapi::Lookup {
        profile: Some(home.profile().to_string_lossy().into_owned()),
        home: Some(home.path()),
        ..rustic_hapi::Lookup::default()
    };
    let profile = rustic_hapi::Profile::load(&lookup).unwrap();
    let stop = hapi_sources::Stop::default();
    // The signal comes after the lock was taken and before the first series.
    let clock = || {
        stop.set();
        chrono::Local::now()
    };
    let request = rustic_hapi::snapshot::Request::default();
    let ui = rustic_hapi::Ui::silent();
    let context = rustic_hapi::Context {
        clock: &clock,
        stop: &stop,
        ui: &ui,
    };
    let report = rustic_hapi::snapshot::run(&profile, &request, &context).unwrap();
    let names: Vec<_> = report.series.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["hapi-weekly", "hapi"]);
    assert_ne!(report.exit(), rustic_hapi::Exit::Complete);
    assert!(home.restic_snapshots().is_empty());
}

#[test]
fn a_capture_that_never_ends_is_ended_when_the_run_has_had_its_time() {
    let home = Home::initialised();
    let database = home.database();
    let profile = home.write_profile(
        "endless",
        &format!(
            "[[source]]\nname = \"hub\"\npath = {database:?}\nkind = \"sqlite\"\ncount = [\"endless\"]\n[limits]\ntotal = \"10s\"\n"
        ),
    );
    let args = ["--profile", profile.to_str().unwrap(), "snapshot"];
    home.hapi_command(&args).exits(0);
    // Each of its rows is a sign of life.
    sqlite3(
        &database,
        "CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n",
    );
    let said = home.hapi_command(&args).exits(1);
    assert!(said.stderr.contains("so it was ended"), "{}", said.stderr);
    assert_eq!(home.ids("endless").len(), 1);
}

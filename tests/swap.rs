//! A swap of a database in its place loses no row, whatever happens in the middle, and nobody who
//! has the database open is overlooked.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{BusyHub, Said, run, sqlite3};
use chrono::{DateTime, Local, TimeZone};
use rustic_hapi::swap::{Healed, Ownership, SetAside, Swap, heal};
use rustic_hapi::{Error, holders};
use tempfile::TempDir;

/// Where the child process of a test finds the database; see `child`.
const LIVE: &str = "INPLACE_TEST_LIVE";

fn noon() -> DateTime<Local> {
    Local.with_ymd_and_hms(2026, 11, 22, 6, 0, 0).unwrap()
}

const NEW_MACHINE: Ownership = Ownership {
    mode: 0o640,
    uid: 0,
    gid: 0,
};

/// A hub's folder whose database was restored to an earlier state, which is `restored.db`.
struct Hub {
    dir: TempDir,
    /// Rows of the old database, those in the WAL among them.
    old_rows: u64,
    new_rows: u64,
}

impl Hub {
    /// Its writer was killed: most rows are in the WAL alone.
    fn killed() -> Self {
        let (mut hub, writer) = Self::busy();
        writer.kill();
        assert!(fs::metadata(hub.at("hapi.db-wal")).unwrap().len() > 100_000);
        hub.old_rows = hub.rows();
        assert!(hub.old_rows > hub.new_rows + 10);
        hub
    }

    /// Its writer writes.
    fn busy() -> (Self, BusyHub) {
        let dir = tempfile::tempdir().unwrap();
        let hub = Self {
            old_rows: 0,
            new_rows: 0,
            dir,
        };
        let writer = BusyHub::start(&hub.live());
        let backup = format!(".backup '{}'", hub.restored().display());
        run("sqlite3", &[hub.live().as_os_str(), backup.as_ref()]);
        sqlite3(&hub.restored(), "PRAGMA journal_mode=DELETE");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let new_rows = rows(&hub.restored());
        assert!(new_rows > 0);
        (Self { new_rows, ..hub }, writer)
    }

    fn folder(&self) -> PathBuf {
        // The database's folder has nothing else in it.
        let folder = self.dir.path().join("hapi");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn live(&self) -> PathBuf {
        self.at("hapi.db")
    }

    fn restored(&self) -> PathBuf {
        self.dir.path().join("restored.db")
    }

    /// What SQLite finds at the database's path, asked of a copy: a reader could settle the WAL.
    fn rows(&self) -> u64 {
        let copy = tempfile::tempdir().unwrap();
        run(
            "cp",
            &["-a".as_ref(), self.folder().as_ref(), copy.path().as_ref()],
        );
        rows(&copy.path().join("hapi/hapi.db"))
    }

    /// Everything at the database's place: name, bytes, inode.
    fn state(&self) -> BTreeMap<String, (Vec<u8>, u64)> {
        let mut state = BTreeMap::new();
        for entry in fs::read_dir(self.folder()).unwrap() {
            let entry = entry.unwrap();
            let bytes = fs::read(entry.path()).unwrap_or_default();
            let name = entry.file_name().into_string().unwrap();
            state.insert(name, (bytes, entry.metadata().unwrap().ino()));
        }
        state
    }

    fn names(&self) -> Vec<String> {
        self.state().into_keys().collect()
    }

    fn swap(&self) -> Result<SetAside, Error> {
        swap(&self.live(), &self.restored(), &|_| Ok(()))
    }

    /// The same in a process of its own, which a fault ends.
    fn swap_until(&self, fault: &str, prove_fails: bool) {
        let output = child(&self.live())
            .env("INPLACE_TEST_RESTORED", self.restored())
            .env(
                "INPLACE_TEST_PROVE",
                if prove_fails { "fails" } else { "works" },
            )
            .env("RUSTIC_HAPI_TEST_FAULT", format!("swap:{fault}"))
            .output()
            .unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(output.status.signal(), Some(6), "{fault}: {output:?}");
    }
}

#[track_caller]
fn rows(database: &Path) -> u64 {
    assert_eq!(sqlite3(database, "PRAGMA integrity_check"), "ok");
    sqlite3(database, "SELECT count(*) FROM beats")
        .parse()
        .unwrap()
}

fn swap(
    live: &Path,
    restored: &Path,
    prove: &dyn Fn(&Path) -> Result<(), String>,
) -> Result<SetAside, Error> {
    let swap = Swap::begin(live)?;
    fs::copy(restored, swap.incoming()).unwrap();
    fs::set_permissions(swap.incoming(), fs::Permissions::from_mode(0o600)).unwrap();
    swap.commit(noon(), &NEW_MACHINE, prove)
}

/// This test binary, as a process that does what `in_a_process_of_its_own` does.
fn child(live: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "swap::in_a_process_of_its_own",
            "--ignored",
            "--nocapture",
        ])
        .env(LIVE, live);
    command
}

#[test]
#[ignore = "other tests run it, in a process of its own"]
fn in_a_process_of_its_own() {
    let Some(live) = std::env::var_os(LIVE).map(PathBuf::from) else {
        return;
    };
    let Some(restored) = std::env::var_os("INPLACE_TEST_RESTORED") else {
        let look = holders::of(&live).unwrap();
        for holder in &look.holders {
            println!("holder: {holder}");
        }
        println!("unseen: {}", look.unseen);
        return;
    };
    let fails = std::env::var("INPLACE_TEST_PROVE").is_ok_and(|what| what == "fails");
    let said = swap(&live, restored.as_ref(), &|_| match fails {
        true => Err("it is not what it should be".into()),
        false => Ok(()),
    });
    println!("{said:?}");
}

#[test]
fn a_database_in_use_is_refused_with_the_process() {
    let (hub, writer) = Hub::busy();
    let error = Swap::begin(&hub.live()).unwrap_err();
    let Error::InUse { path, by, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*path, hub.live().canonicalize().unwrap());
    assert_eq!(by.len(), 1, "{by:?}");
    assert!(
        by[0].starts_with(&format!("process {} ", writer.pid())),
        "{by:?}"
    );
    assert!(error.to_string().contains("python"), "{error}");
    assert!(error.hint().unwrap().contains("stop the unit"));
    assert_eq!(hub.names(), ["hapi.db", "hapi.db-shm", "hapi.db-wal"]);
}

#[test]
fn a_hub_that_started_since_is_noticed_before_anything_changes() {
    let hub = Hub::killed();
    let swap = Swap::begin(&hub.live()).unwrap();
    fs::copy(hub.restored(), swap.incoming()).unwrap();
    let writer = BusyHub::start(&hub.live());
    let error = swap.commit(noon(), &NEW_MACHINE, &|_| Ok(())).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error:?}");
    writer.kill();
    assert_eq!(hub.names(), ["hapi.db", "hapi.db-shm", "hapi.db-wal"]);
    assert!(hub.rows() > hub.old_rows);
}

#[test]
fn the_new_rows_alone_are_there_and_the_old_ones_are_set_aside() {
    let hub = Hub::killed();
    let before = hub.state();
    let proven = std::cell::Cell::new(false);
    let old = swap(&hub.live(), &hub.restored(), &|live| {
        proven.set(rows(live) == hub.new_rows);
        Ok(())
    })
    .unwrap();
    assert!(proven.get());
    let folder = old.folder.unwrap();
    assert_eq!(
        folder.file_name().unwrap(),
        "hapi.db.set-aside-20261122T060000"
    );
    assert_eq!(
        hub.names(),
        ["hapi.db", "hapi.db.set-aside-20261122T060000"]
    );
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    for (name, (bytes, _)) in before {
        assert_eq!(fs::read(folder.join(name)).unwrap(), bytes);
    }
    assert_eq!(rows(&hub.live()), hub.new_rows);
    assert_eq!(rows(&folder.join("hapi.db")), hub.old_rows);
    assert_eq!(heal(&hub.live()).unwrap(), None);

    // A second one at the same second has a folder of its own.
    let again = hub.swap().unwrap().folder.unwrap();
    assert!(again.ends_with("hapi.db.set-aside-20261122T060000-2"));
}

#[test]
fn a_wal_that_stays_brings_rows_back_from_after_the_backup() {
    // The trap: what a copy over the old file would do.
    let hub = Hub::killed();
    fs::copy(hub.restored(), hub.live()).unwrap();
    assert_ne!(hub.rows(), hub.new_rows);

    let hub = Hub::killed();
    hub.swap().unwrap();
    assert_eq!(hub.rows(), hub.new_rows);
}

#[test]
fn what_cannot_be_proven_is_replaced_by_the_old_files() {
    let hub = Hub::killed();
    let before = hub.state();
    let error = swap(&hub.live(), &hub.restored(), &|live| {
        assert_eq!(rows(live), hub.new_rows);
        Err("a table is missing".into())
    })
    .unwrap_err();
    assert!(matches!(error, Error::NotSwapped { .. }), "{error:?}");
    assert!(error.to_string().contains("a table is missing"), "{error}");
    // Bytes and inodes.
    assert_eq!(hub.state(), before);
    assert_eq!(hub.rows(), hub.old_rows);
}

#[test]
fn what_a_hub_already_uses_is_not_taken_from_it() {
    let hub = Hub::killed();
    let writer = std::cell::RefCell::new(None);
    let error = swap(&hub.live(), &hub.restored(), &|live| {
        writer.replace(Some(BusyHub::start(live)));
        Err("locked".into())
    })
    .unwrap_err();
    writer.take().unwrap().kill();
    let Error::HalfSwapped { folder, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(hub.rows() > hub.new_rows);
    // All of it is found again: the new one with what was written since, and the old one.
    let healed = heal(&hub.live()).unwrap();
    assert!(matches!(healed, Some(Healed::Completed(_))), "{healed:?}");
    assert!(hub.rows() > hub.new_rows);
    assert_eq!(rows(&folder.join("hapi.db")), hub.old_rows);
}

#[test]
fn a_file_system_without_hard_links_is_told_before_anything_changes() {
    let hub = Hub::killed();
    let before = hub.state();
    let output = child(&hub.live())
        .env("INPLACE_TEST_RESTORED", hub.restored())
        .env("RUSTIC_HAPI_TEST_FAULT", "swap:no-links")
        .output()
        .unwrap();
    let said = Said::from(output).exits(0);
    assert!(said.stdout.contains("NotSwapped"), "{said:?}");
    assert!(said.stdout.contains("no hard links"), "{said:?}");
    assert_eq!(hub.state(), before);
}

#[test]
fn undo_brings_the_old_state_back_and_keeps_the_new_one() {
    let hub = Hub::killed();
    let before = hub.state();
    let old = hub.swap().unwrap();
    // The hub ran on the restored one since.
    BusyHub::start(&hub.live()).kill();
    let since = hub.rows();
    assert!(since > hub.new_rows);

    let undo = old.undo().join("\n");
    run("sh", &["-c".as_ref(), undo.as_ref()]);
    let folder = old.folder.unwrap();
    let mut after = hub.state();
    after.remove("hapi.db.set-aside-20261122T060000").unwrap();
    assert_eq!(after, before);
    assert_eq!(hub.rows(), hub.old_rows);
    assert_eq!(rows(&folder.join("restored/hapi.db")), since);

    // Typed twice, it does nothing.
    let again = Command::new("sh")
        .args(["-c", &undo])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!again.success());
    assert_eq!(hub.rows(), hub.old_rows);
}

#[test]
fn undo_of_a_path_that_a_shell_would_take_apart() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("it's a $(hub)");
    fs::create_dir(&folder).unwrap();
    let (live, restored) = (folder.join("hapi.db"), dir.path().join("new"));
    sqlite3(&live, "CREATE TABLE old(x)");
    sqlite3(&restored, "CREATE TABLE new(x)");
    let old = swap(&live, &restored, &|_| Ok(())).unwrap();
    assert_eq!(sqlite3(&live, ".tables"), "new");
    run("sh", &["-c".as_ref(), old.undo().join("\n").as_ref()]);
    assert_eq!(sqlite3(&live, ".tables"), "old");
}

/// What a killed swap must leave, and what healing makes of it.
fn killed_at(step: &str, prove_fails: bool, new_is_there: bool) {
    let hub = Hub::killed();
    let before = hub.state();
    let expected = if new_is_there {
        hub.new_rows
    } else {
        hub.old_rows
    };

    hub.swap_until(step, prove_fails);
    assert_eq!(hub.rows(), expected, "{step}: before healing");
    let healed = heal(&hub.live()).unwrap().expect(step);
    assert_eq!(hub.rows(), expected, "{step}: after it");
    assert_eq!(heal(&hub.live()).unwrap(), None, "{step}: twice");
    match healed {
        Healed::PutBack { .. } => assert!(!new_is_there, "{step}"),
        Healed::Completed(old) => {
            assert!(new_is_there, "{step}");
            assert_eq!(rows(&old.files[0]), hub.old_rows, "{step}");
            // That look settled the WAL, and undoing works all the same.
            run("sh", &["-c".as_ref(), old.undo().join("\n").as_ref()]);
            assert_eq!(hub.rows(), hub.old_rows, "{step}: undone");
        }
    }
    if !new_is_there {
        // The next restore removes the copy that the killed one left.
        drop(Swap::begin(&hub.live()).unwrap());
        assert_eq!(hub.state(), before, "{step}");
    }
}

/// The machine starts again half-way, the hub with it, and only then somebody heals.
fn used_after(step: &str, prove_fails: bool, dies: bool) {
    let hub = Hub::killed();
    hub.swap_until(step, prove_fails);
    let found = hub.rows();
    let writer = BusyHub::start(&hub.live());
    assert!(matches!(Swap::begin(&hub.live()), Err(Error::InUse { .. })));
    writer.kill();
    if !dies {
        // A clean end settles the WAL and removes it.
        sqlite3(&hub.live(), "DELETE FROM beats WHERE n < 0");
    }
    let written = hub.rows();
    assert!(written > found, "{step}");
    heal(&hub.live()).unwrap();
    assert_eq!(hub.rows(), written, "{step}: dies {dies}");
    assert!(hub.live().symlink_metadata().unwrap().is_file());
}

const STEPS: [(&str, bool, bool); 8] = [
    ("linked", false, false),
    ("pointed", false, false),
    ("bare", false, false),
    ("swapped", false, true),
    ("proved", false, true),
    ("pointed-back", true, false),
    ("sides-back", true, false),
    ("named-again", true, false),
];

#[test]
fn a_kill_at_any_step_leaves_the_old_or_the_new_database_whole() {
    for (step, prove_fails, new_is_there) in STEPS {
        killed_at(step, prove_fails, new_is_there);
    }
}

#[test]
fn a_hub_that_ran_between_the_kill_and_the_healing_loses_nothing() {
    for (step, prove_fails, _) in STEPS {
        used_after(step, prove_fails, true);
        used_after(step, prove_fails, false);
    }
}

#[test]
fn an_interrupted_rollback_goes_along() {
    // A writer in rollback mode that died in the middle of a transaction leaves a hot journal, and
    // pages in the database that only the journal can take back.
    let hub = Hub::killed();
    let database = hub.live();
    sqlite3(&database, "PRAGMA journal_mode=DELETE");
    let rows_before = rows(&database);
    let script = r#"
import sqlite3, sys, os, signal
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size=5")
db.execute("PRAGMA cache_spill=1")
db.execute("BEGIN IMMEDIATE")
db.execute("UPDATE beats SET pad = pad || 'x'")
db.execute("DELETE FROM beats WHERE n % 2")
os.kill(os.getpid(), signal.SIGKILL)
"#;
    let killed = Command::new("python3")
        .args(["-c", script])
        .arg(&database)
        .status()
        .unwrap();
    assert!(!killed.success());
    assert!(fs::metadata(hub.at("hapi.db-journal")).unwrap().len() > 0);

    hub.swap_until("pointed", false);
    assert_eq!(hub.rows(), rows_before);
    heal(&database).unwrap().unwrap();
    assert_eq!(hub.rows(), rows_before);
    let old = hub.swap().unwrap();
    assert_eq!(hub.rows(), hub.new_rows);
    assert_eq!(old.files.len(), 2);
    assert_eq!(rows(&old.files[0]), rows_before);
}

#[test]
fn another_users_process_is_found_by_its_locks() {
    let (hub, writer) = Hub::busy();
    // All may read, as it is where the hub's umask is the usual one. A copy, as nobody may not
    // enter the folders that a build of root's lies in.
    let everybody = fs::Permissions::from_mode(0o755);
    fs::set_permissions(hub.dir.path(), everybody.clone()).unwrap();
    fs::set_permissions(hub.folder(), everybody.clone()).unwrap();
    let program = hub.dir.path().join("looker");
    // By another process: one that a test beside this one starts would have it open for writing, too.
    let own = std::env::current_exe().unwrap();
    run("cp", &[own.as_os_str(), program.as_os_str()]);
    fs::set_permissions(&program, everybody).unwrap();
    let look = || {
        let as_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        let output = Command::new("setpriv")
            .args(as_nobody)
            .arg(&program)
            .args(child(&hub.live()).get_args())
            .env(LIVE, hub.live())
            .current_dir("/")
            .output()
            .expect("setpriv, of util-linux, is needed");
        Said::from(output).exits(0).stdout
    };
    let said = look();
    let holder = format!("holder: process {} (`python", writer.pid());
    assert!(said.contains(&holder), "{said}");
    assert_eq!(said.matches("holder:").count(), 1, "{said}");

    // Without locks nothing is known, and that is said.
    writer.kill();
    let said = look();
    assert!(!said.contains("holder:"), "{said}");
    assert!(!said.contains("unseen: 0"), "{said}");
}

#[test]
fn the_new_database_is_whose_the_old_one_was() {
    let hub = Hub::killed();
    let (live, nobody) = (hub.live(), Some(65534));
    std::os::unix::fs::chown(&live, nobody, nobody).expect("these tests run as root");
    fs::set_permissions(&live, fs::Permissions::from_mode(0o640)).unwrap();
    let old = hub.swap().unwrap();
    for path in [live, old.folder.unwrap()] {
        let file = fs::metadata(path).unwrap();
        assert_eq!((file.uid(), file.gid()), (65534, 65534));
    }
    assert_eq!(fs::metadata(hub.live()).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn a_linked_database_is_swapped_where_it_is() {
    let hub = Hub::killed();
    let elsewhere = hub.dir.path().join("elsewhere.db");
    symlink("hapi/hapi.db", &elsewhere).unwrap();
    let old = swap(&elsewhere, &hub.restored(), &|_| Ok(())).unwrap();
    assert_eq!(old.live, hub.live().canonicalize().unwrap());
    assert_eq!(
        fs::read_link(&elsewhere).unwrap(),
        Path::new("hapi/hapi.db")
    );
    assert_eq!(rows(&elsewhere), hub.new_rows);
    assert_eq!(rows(&old.files[0]), hub.old_rows);
}

#[test]
fn a_new_machine_gets_it_without_more_ado() {
    let hub = Hub::killed();
    for name in hub.names() {
        fs::remove_file(hub.at(&name)).unwrap();
    }
    let failed = swap(&hub.live(), &hub.restored(), &|_| Err("no".into()));
    assert!(
        matches!(failed, Err(Error::NotSwapped { .. })),
        "{failed:?}"
    );
    assert_eq!(hub.names(), [""; 0]);

    let old = hub.swap().unwrap();
    assert_eq!(old.folder, None);
    assert_eq!(old.files, [""; 0].map(PathBuf::from));
    assert_eq!(old.undo(), [""; 0]);
    assert_eq!(hub.names(), ["hapi.db"]);
    assert_eq!(fs::metadata(hub.live()).unwrap().mode() & 0o777, 0o640);
    assert_eq!(rows(&hub.live()), hub.new_rows);
}

#[test]
fn a_database_that_appears_meanwhile_is_set_aside_too() {
    let hub = Hub::killed();
    for name in hub.names() {
        fs::remove_file(hub.at(&name)).unwrap();
    }
    let swap = Swap::begin(&hub.live()).unwrap();
    fs::copy(hub.restored(), swap.incoming()).unwrap();
    sqlite3(&hub.live(), "CREATE TABLE fresh(x)");
    let old = swap.commit(noon(), &NEW_MACHINE, &|_| Ok(())).unwrap();
    assert_eq!(sqlite3(&old.files[0], ".tables"), "fresh");
    assert_eq!(rows(&hub.live()), hub.new_rows);
}

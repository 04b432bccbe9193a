//! Names, times, modes, owners and links that file systems hold and people never type: what the engine
//! writes of them, stock restic has to read, restore and prune.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::{Home, Tmpfs};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// One odd file, folder or link.
#[derive(Clone, Debug)]
struct Odd {
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    /// Seconds from the epoch.
    mtime: i64,
    nanos: u32,
    size: usize,
    target: Vec<u8>,
}

/// Bytes of a name: anything but `/` and NUL.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => any::<u8>(),
        2 => prop::sample::select(b"\\\"'`$\n\r\t\x1b\x7f\x80\xff\xc3\xe2 ~*?[]{}|<>&;".to_vec()),
        1 => Just(b'a'),
    ];
    prop::collection::vec(byte, 1..40)
        .prop_map(|name| {
            name.into_iter()
                .filter(|b| ![0, b'/'].contains(b))
                .collect()
        })
        .prop_filter("a name", |name: &Vec<u8>| {
            !name.is_empty() && name != b"." && name != b".."
        })
}

fn odd() -> impl Strategy<Value = Odd> {
    let mtime = prop_oneof![
        Just(-99_999_999_999i64),
        Just(-62_135_596_801),
        Just(-1),
        Just(253_402_300_799),
        Just(253_402_300_800),
        Just(1 << 40),
        Just(-(1 << 40)),
        any::<i32>().prop_map(i64::from),
        -(1i64 << 37)..(1i64 << 38),
    ];
    let id = || prop_oneof![Just(0), Just(u32::MAX - 1), 0..100_000u32];
    (
        0..3u8,
        0..0o10_000u32,
        (id(), id()),
        mtime,
        0..1_000_000_000u32,
        prop_oneof![Just(0), 0..3000usize, Just(70_000)],
        name(),
    )
        .prop_map(|(kind, mode, owner, mtime, nanos, size, target)| Odd {
            kind,
            mode,
            owner,
            mtime,
            nanos,
            size,
            target,
        })
}

fn time(seconds: i64, nanos: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = match seconds < 0 {
        true => UNIX_EPOCH - whole,
        false => UNIX_EPOCH + whole,
    };
    base + Duration::from_nanos(u64::from(nanos))
}

fn make(folder: &Path, odds: &BTreeMap<Vec<u8>, Odd>) {
    for (name, odd) in odds {
        let path = folder.join(OsStr::from_bytes(name));
        match odd.kind {
            0 => fs::write(&path, vec![b'x'; odd.size]).unwrap(),
            1 => fs::create_dir(&path).unwrap(),
            _ => {
                symlink(OsString::from_vec(odd.target.clone()), &path).unwrap();
                let date = format!("@{}", odd.mtime);
                let touched = Command::new("touch")
                    .args(["-h", "-d", &date])
                    .arg(&path)
                    .status();
                assert!(touched.unwrap().success());
                continue;
            }
        }
        chown(&path, Some(odd.owner.0), Some(odd.owner.1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(odd.mode)).unwrap();
        File::open(&path)
            .unwrap()
            .set_modified(time(odd.mtime, odd.nanos))
            .unwrap();
    }
}

/// What of it restic has to bring back.
fn same(folder: &Path, restored: &Path, odds: &BTreeMap<Vec<u8>, Odd>) {
    for (name, odd) in odds {
        let name = OsStr::from_bytes(name);
        let was = fs::symlink_metadata(folder.join(name)).unwrap();
        let is = fs::symlink_metadata(restored.join(name))
            .unwrap_or_else(|error| panic!("{name:?} {odd:?}: {error}"));
        assert_eq!(was.file_type(), is.file_type(), "{name:?}");
        match odd.kind {
            0 => assert!(
                fs::read(restored.join(name)).unwrap().len() == odd.size,
                "{name:?}"
            ),
            1 => {}
            _ => {
                let target = |folder: &Path| fs::read_link(folder.join(name)).unwrap();
                // restic 0.14 knows no link targets that are not UTF-8 (0.17 does, `linktarget_raw`).
                if std::str::from_utf8(&odd.target).is_ok() {
                    assert_eq!(target(folder), target(restored));
                }
                continue;
            }
        }
        assert_eq!(was.mode(), is.mode(), "{name:?}");
        assert_eq!((was.uid(), was.gid()), (is.uid(), is.gid()), "{name:?}");
        // restic counts in nanoseconds of 64 bits when it sets a time: the years 1678 to 2262.
        if was.mtime().unsigned_abs() < 9_000_000_000 {
            assert_eq!(
                (was.mtime(), was.mtime_nsec()),
                (is.mtime(), is.mtime_nsec()),
                "{name:?}"
            );
        }
    }
}

#[test]
fn whatever_a_file_system_holds_stock_restic_restores() {
    let home = Home::initialised();
    // ext4 cannot hold such times; tmpfs can, as btrfs, ZFS, NFS and FUSE can.
    let mounted = ["odd", "back"].map(|name| home.dir.path().join(name));
    let _mounted = mounted.map(|folder| Tmpfs::mount(folder, "size=64m"));
    let profile = home.write_profile(
        "odd",
        &format!(
            "[[source]]\nname = \"odd\"\nkind = \"dir\"\npath = {:?}\n",
            home.dir.path().join("odd")
        ),
    );
    let profile = profile.to_str().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: 4,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    });
    let odds = prop::collection::btree_map(name(), odd(), 20..60);
    runner
        .run(&odds, |odds| {
            let folder = home.dir.path().join("odd/it");
            _ = fs::remove_dir_all(&folder);
            fs::create_dir(&folder).unwrap();
            make(&folder, &odds);
            let said = home
                .hapi_command(&["--profile", profile, "snapshot", "--json"])
                .exits(0);
            let target = home.dir.path().join("back/restored");
            _ = fs::remove_dir_all(&target);
            home.restic(&[
                "restore",
                "--tag",
                "odd",
                "latest",
                "--target",
                target.to_str().unwrap(),
            ]);
            same(
                &folder,
                &target.join(folder.strip_prefix("/").unwrap()),
                &odds,
            );
            home.hapi_command(&["--profile", profile, "drill"]).exits(0);
            // A time that restic cannot hold is on record as it was.
            let beyond = odds
                .values()
                .any(|odd| odd.mtime < -70_000_000_000 || odd.mtime > 260_000_000_000);
            let manifest = home.manifest("odd").to_string();
            assert_eq!(manifest.contains("\"mtime\":\"@"), beyond, "{said:?}");
            Ok(())
        })
        .unwrap();
    home.restic(&["check", "--read-data"]);
    home.restic(&["prune"]);
}

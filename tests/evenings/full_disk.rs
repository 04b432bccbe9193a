//! The disk of the repository is full. It has no room for a lock either.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{run, sqlite3};
use crate::evenings::{Evening, suggested};

/// A file system in memory of so many MiB, gone with this.
struct Small(PathBuf);

impl Small {
    fn mounted(at: &Path, mib: u32) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m");
        let words = ["-t", "tmpfs", "-o", &size, "tmpfs"].map(str::as_ref);
        run("mount", &[&words[..], &[at.as_os_str()]].concat());
        Self(at.to_owned())
    }

    fn fill(&self, name: &str) {
        let file = fs::File::create(self.0.join(name)).unwrap();
        let zeros = vec![0u8; 4096];
        while std::io::Write::write_all(&mut &file, &zeros).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run("umount", &["-l".as_ref(), self.0.as_os_str()]);
    }
}

#[test]
fn what_the_program_advises_makes_room_at_once() {
    let evening = Evening::of_root();
    let home = &evening.home;
    let disk = Small::mounted(&home.dir.path().join("disk"), 24);
    fs::rename(home.repository(), home.dir.path().join("before")).unwrap();
    crate::common::copy(&home.dir.path().join("before"), &disk.0.join("repository"));
    home.edit_profile(|text| {
        let there = home.repository();
        let here = disk.0.join("repository");
        text.replace(there.to_str().unwrap(), here.to_str().unwrap())
    });
    let rewrite = |bytes: u32| {
        sqlite3(
            &home.database(),
            &format!(
                "UPDATE messages SET content = hex(randomblob({bytes} / (SELECT count(*) FROM messages)))"
            ),
        )
    };
    rewrite(4_000_000);
    home.snapshot().exits(0);
    let large = home_ids(&evening)[0].clone();
    rewrite(10_000);
    // Free pages keep their bytes.
    sqlite3(&home.database(), "VACUUM");
    home.snapshot().exits(0);
    // Somebody removed the large one, but its packs are still there; an upload was cut off; and the rest is full.
    evening
        .types(
            0,
            &format!("eval \"$(rustic-hapi env)\"; restic forget {large}"),
        )
        .exits(0);
    let cut_off = disk
        .0
        .join("repository/data/00")
        .join(format!("{}-tmp-", "00".repeat(32)));
    fs::create_dir_all(cut_off.parent().unwrap()).unwrap();
    fs::write(&cut_off, vec![0u8; 300_000]).unwrap();
    disk.fill("of-somebody-else");
    rewrite(2_000_000);

    let said = home.snapshot().exits(1);
    assert_eq!(said.stderr.matches("No space left").count(), 1, "{said:?}");
    let advice = suggested(&said);
    assert!(advice[0].starts_with("rm "), "{said:?}");
    assert!(advice[1].ends_with("forget --prune --instant"), "{said:?}");
    evening.follows(&advice[0], &[]).exits(0);
    // Without a terminal nobody agreed yet.
    let said = evening.follows(&advice[1], &[]).exits(2);
    assert!(said.stderr.contains("ignores restic's locks"), "{said:?}");
    let advice = suggested(&said);
    assert!(advice[0].ends_with("--instant --yes"), "{said:?}");
    let said = evening.follows(&advice[0], &[]).exits(0);
    assert!(said.stdout.contains("deleted"), "{said:?}");
    home.snapshot().exits(0);
    evening
        .types(0, "eval \"$(rustic-hapi env)\"; restic check --read-data")
        .exits(0);
}

fn home_ids(evening: &Evening) -> Vec<String> {
    let said = evening.says(&["snapshots", "--json"]).exits(0).json();
    let ids = said["snapshots"].as_array().unwrap().iter();
    ids.filter(|s| s["series"] == "hapi")
        .map(|s| s["id"].as_str().unwrap().to_owned())
        .collect()
}

//! A byte of the repository flipped.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::common::sqlite3;
use crate::evenings::{Evening, suggested};

/// A snapshot of what no compression makes small.
fn with_large_packs() -> Evening {
    let evening = Evening::of_root();
    sqlite3(
        &evening.home.database(),
        "UPDATE messages SET content = hex(randomblob(2000))",
    );
    evening.home.snapshot().exits(0);
    evening
}

/// The largest pack.
fn pack(evening: &Evening) -> PathBuf {
    let entries = |folder: PathBuf| fs::read_dir(folder).unwrap().flatten();
    let folders = entries(evening.home.repository().join("data"));
    let packs = folders.flat_map(|folder| entries(folder.path()));
    let packs = packs.filter(|pack| pack.path().is_file());
    packs
        .max_by_key(|pack| pack.metadata().unwrap().len())
        .unwrap()
        .path()
}

#[test]
fn a_damaged_pack_is_set_aside_and_what_still_exists_is_stored_anew() {
    let evening = with_large_packs();
    let home = &evening.home;
    let pack = pack(&evening);
    let mut file = fs::OpenOptions::new().write(true).open(&pack).unwrap();
    file.seek(SeekFrom::Start(9000)).unwrap();
    file.write_all(b"XXXX").unwrap();
    drop(file);

    let said = evening.says(&["check", "--read-data"]).exits(1);
    let advice = suggested(&said);
    let named = format!("mv {}", pack.display());
    assert!(advice[0].starts_with(&named), "{said:?}");
    for command in &advice {
        // Debian's restic knows the older name.
        if command.contains("repair index") {
            continue;
        }
        evening.follows(command, &[]).exits(0);
    }
    home.snapshot().exits(0);
    let said = evening.says(&["drill"]).exits(0);
    assert!(said.stdout.contains("proven"), "{said:?}");
}

#[test]
fn what_a_run_took_back_itself_is_not_missed() {
    let evening = with_large_packs();
    let home = &evening.home;
    // A pack that deduplication relies on is gone: the next snapshot cannot be read back.
    let pack = pack(&evening);
    fs::rename(&pack, home.dir.path().join("aside")).unwrap();
    home.change();
    let said = home.snapshot();
    assert_ne!(said.code, 0, "{said:?}");
    fs::rename(home.dir.path().join("aside"), &pack).unwrap();
    home.snapshot().exits(0);
    let said = evening.says(&["status"]);
    assert!(!said.stderr.contains("are gone"), "{said:?}");
}

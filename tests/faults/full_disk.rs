//! Disks that fill at random moments: the destination's, the staging folder's, the state folder's.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{BusyHub, Home, Said, Tmpfs, copy};
use crate::dice::{Dice, rounds};
use crate::judge::Judge;

/// Fills a file system but for a few bytes, and keeps it so until it is dropped.
struct Filler {
    file: PathBuf,
    full: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Filler {
    fn start(folder: &Path, after: Duration) -> Self {
        let file = folder.join("filler");
        let stop = Arc::new(AtomicBool::new(false));
        let full = Arc::new(AtomicBool::new(false));
        let (told, tell, path) = (Arc::clone(&stop), Arc::clone(&full), file.clone());
        let thread = thread::spawn(move || {
            thread::sleep(after);
            let mut filler = File::create(&path).unwrap();
            while !told.load(Ordering::SeqCst) {
                // What is freed meanwhile is taken, too.
                if filler.write_all(&[0; 4096]).is_err() {
                    tell.store(true, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Self {
            file,
            full,
            stop,
            thread: Some(thread),
        }
    }

    fn wait(&self) {
        while !self.full.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
        _ = fs::remove_file(&self.file);
    }
}

#[test]
fn a_disk_that_fills_loses_nothing() {
    let mut dice = Dice::new("full disk");
    let home = Home::new();
    // A folder of its own for the filler beside the repository: it is none of restic's.
    let disks =
        ["repository-disk", "staging-disk", "state-disk"].map(|name| home.dir.path().join(name));
    let mounted = disks
        .clone()
        .map(|disk| Tmpfs::mount(disk, "size=24m,mode=700"));
    let place = disks[0].join("repository");
    std::os::unix::fs::symlink(&place, home.repository()).unwrap();
    home.init_at(place.to_str().unwrap()).exits(0);
    home.cheapen();
    home.edit_profile(|text| format!("staging = \"{}/staging\"\n{text}", disks[1].display()));
    let state = home.path().join(".local/state/rustic-hapi");
    copy(&state, &disks[2].join("rustic-hapi"));
    fs::remove_dir_all(&state).unwrap();
    std::os::unix::fs::symlink(disks[2].join("rustic-hapi"), &state).unwrap();

    let mut judge = Judge::default();
    let first = home.snapshot().exits(0);
    judge.hear(&home, &first);
    let (mut failed, rounds) = (0, rounds(9));
    // How long a run takes here and now, so that most of them are hit.
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let disk = &disks[usize::try_from(round % 3).unwrap()];
        // Full from the beginning once each, so that the suite sees what it is about.
        let after = match round < 3 {
            true => Duration::ZERO,
            false => dice.moment(longest),
        };
        // What deletes writes first: every other time on the repository's disk.
        let prune = round % 6 == 3;
        if prune {
            judge.keep_two(&home, false);
        }
        let args: &[&str] = match prune {
            true => &["forget", "--prune"],
            false => &["snapshot", "--json"],
        };
        println!(
            "round {round}: {}, and {} full after {after:?}",
            args.join(" "),
            disk.display()
        );
        let hub = BusyHub::start(&home.database());
        let filler = Filler::start(disk, after);
        if after.is_zero() {
            filler.wait();
        }
        // So late that what was marked before goes.
        let said = match prune {
            true => home
                .through("faketime", &["30 hours"], args)
                .output()
                .unwrap(),
            false => home.command().args(args).output().unwrap(),
        };
        let said = Said::from(said);
        drop(filler);
        drop(hub);
        assert!([0, 1, 3].contains(&said.code), "{said:?}");
        if said.code != 0 {
            failed += 1;
            clear(&said);
        } else if after.is_zero() {
            // Records that cannot be written keep no snapshot from being saved.
            let told = said
                .stderr
                .matches("record of this machine's snapshots")
                .count();
            assert_eq!(told, 1, "{said:?}");
        }
        judge.hear(&home, &said);
        judge.judge(&home, &mut |n| dice.below(n), 2);
        // Room again, and no help.
        let begun = Instant::now();
        let next = home.snapshot().exits(0);
        longest = begun.elapsed();
        judge.hear(&home, &next);
        Judge::clean(&home);
        // So that the repository's disk lasts.
        if round % 3 == 2 {
            judge.keep_two(&home, true);
        }
    }
    println!("{rounds} rounds, {failed} runs failed, nothing lost");
    assert!(failed >= rounds.min(2), "a full disk was not noticed");
    drop(mounted);
}

/// What is wrong, and what helps.
fn clear(said: &Said) {
    let told = said.stderr.to_lowercase();
    let fact = ["no space left", "bytes free", "is full", "room"];
    assert!(fact.iter().any(|fact| told.contains(fact)), "{said:?}");
    assert!(told.contains("hint: ") || said.code == 0, "{said:?}");
}

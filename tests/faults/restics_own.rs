//! A repository that stock restic made, with content-defined chunks: it works as any other, and it is told
//! what that costs.

use std::fs;

use crate::common::{BusyHub, Home};
use crate::dice::{Dice, rounds};
use crate::judge::Judge;

/// Bytes of all packs.
fn packs(home: &Home) -> u64 {
    let files = crate::common::files_below(&home.repository().join("data"));
    files.iter().map(|(_, size)| size).sum()
}

#[test]
fn a_repository_of_restics_works_and_its_cost_is_told() {
    let mut dice = Dice::new("restic's repository");
    let home = Home::new();
    fs::create_dir_all(home.password().parent().unwrap()).unwrap();
    fs::write(home.password(), "of restic's own\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(home.password(), fs::Permissions::from_mode(0o600)).unwrap();
    home.restic(&["init", "-q", "--repository-version", "2"]);
    let theirs = home.dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("file"), "somebody's\n").unwrap();
    home.restic(&[
        "backup",
        "-q",
        "--host",
        "someone-else",
        theirs.to_str().unwrap(),
    ]);

    home.cheapen();
    let said = home.init().exits(0);
    assert!(
        said.stdout.contains(
            "content-defined chunks: each later snapshot of a database stores most of it again"
        ),
        "{}",
        said.stdout
    );
    let mut judge = Judge::default();
    judge.leave_out("someone-else");
    for round in 0..rounds(6) {
        let hub = BusyHub::start(&home.database());
        let before = packs(&home);
        let said = home.snapshot().exits(0);
        judge.hear(&home, &said);
        drop(hub);
        println!("round {round}: {} bytes more", packs(&home) - before);
        match round % 3 {
            0 => drop(home.hapi_command(&["forget", "--prune"]).exits(0)),
            1 => drop(home.drill(&[]).exits(0)),
            _ => drop(home.hapi_command(&["check", "--read-data"]).exits(0)),
        }
        judge.judge(&home, &mut |n| dice.below(n), 2);
        Judge::clean(&home);
    }
    let doctor = home.hapi_command(&["doctor"]);
    assert!(
        doctor.stdout.contains("the chunks are content-defined"),
        "{doctor:?}"
    );
    let stays = home.restic_snapshots();
    assert!(stays.iter().any(|s| s["hostname"] == "someone-else"));
}

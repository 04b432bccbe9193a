//! A second place: what the program says of it is about it, and following that is enough.

use std::fs;

use crate::evenings::{Evening, suggested};

#[test]
fn a_second_place_is_made_kept_and_looked_after_by_what_is_said() {
    let evening = Evening::of_root();
    let home = &evening.home;
    let attic = home.dir.path().join("attic");
    home.edit_profile(|text| {
        format!("{text}\n[schedule]\nat = [\"06:00\", \"18:00\"]\n\n[[copy]]\nname = \"attic\"\nlocation = {attic:?}\nallow-same-disk = true\n")
    });
    let at =
        |time: &str, line: &str| evening.types(0, &format!("RUSTIC_HAPI_TEST_NOW={time} {line}"));
    // It was never made: the run says how, and so does doctor.
    let said = at("2026-03-01T06:00:10Z", "rustic-hapi snapshot").exits(3);
    assert_eq!(
        suggested(&said),
        ["rustic-hapi init --copy attic"],
        "{said:?}"
    );
    let made = evening.followed(&said, &[]).remove(0).exits(0);
    let key = home.dir.path().join("attic.key");
    let new_key: Vec<_> = suggested(&made)
        .into_iter()
        .filter(|command| command.contains("--new-key"))
        .collect();
    let blanks = [("FILE", key.to_str().unwrap())];
    let said = evening.follows(&new_key[0], &blanks).exits(0);
    assert!(said.stdout.contains(attic.to_str().unwrap()), "{said:?}");
    assert_eq!(fs::read_dir(attic.join("keys")).unwrap().count(), 2);
    at("2026-03-01T18:00:10Z", "rustic-hapi snapshot -q").exits(0);

    // It is not mounted for some days: what is stale is told, and what helps is about that place.
    let away = home.dir.path().join("away");
    fs::rename(&attic, &away).unwrap();
    for time in ["2026-03-02T18:00:10Z", "2026-03-03T18:00:10Z"] {
        home.change();
        at(time, "rustic-hapi snapshot -q").exits(3);
    }
    let said = at("2026-03-03T19:00:00Z", "rustic-hapi status").exits(20);
    assert!(
        said.stderr.contains("in the copy `attic` is 48 h old"),
        "{said:?}"
    );
    let doctor = suggested(&said)
        .into_iter()
        .find(|command| command.contains("doctor"))
        .unwrap();
    let said = evening.follows(&doctor, &[]).exits(1);
    assert!(
        said.stdout.contains("the folder does not exist"),
        "{said:?}"
    );
    fs::rename(&away, &attic).unwrap();
    at("2026-03-03T19:10:00Z", "rustic-hapi snapshot -q").exits(0);
    at("2026-03-03T19:20:00Z", "rustic-hapi status -q").exits(0);
}

//! Secrets that are in no snapshot, and how they get there.

use std::fs;

use crate::common::{Home, Said};
use crate::evenings::{Evening, suggested};

/// What a drill with the identity says.
fn opened(home: &Home) -> String {
    let key = home.identity();
    home.drill(&["--identity", key.to_str().unwrap()])
        .exits(0)
        .stdout
}

#[test]
fn the_advice_of_init_has_secrets_kept() {
    let evening = Evening::of_root();
    let home = &evening.home;
    fs::remove_file(home.profile()).unwrap();
    let said = evening
        .says(&[
            "init",
            "--allow-same-disk",
            "--repository",
            home.repository().to_str().unwrap(),
        ])
        .exits(0);
    home.snapshot().exits(0);
    let status = evening.says(&["status"]).exits(0);
    assert!(status.stderr.contains("hub.env"), "{status:?}");
    let advice = suggested(&said);
    let advice = advice.iter().find(|a| a.contains("--recipient")).unwrap();
    evening
        .follows(advice, &[("KEY", &home.recipient)])
        .exits(0);
    let profile = fs::read_to_string(home.profile()).unwrap();
    assert!(!profile.contains("skip ="), "{profile}");
    home.snapshot().exits(0);
    let status = evening.says(&["status"]).exits(0);
    assert!(!status.stderr.contains("in no snapshot"), "{status:?}");
    assert!(opened(home).contains("hub.env"));
    // Twice is once.
    evening
        .follows(advice, &[("KEY", &home.recipient)])
        .exits(0);
    assert_eq!(fs::read_to_string(home.profile()).unwrap(), profile);
}

#[test]
fn recipients_count_although_skip_was_left_in() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.edit_profile(|text| text.replace("[secrets]\n", "[secrets]\nskip = true\n"));
    let told = |said: Said| {
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(text.contains("does not count"), "{text}");
    };
    told(evening.says(&["profile", "check"]).exits(0));
    told(home.snapshot().exits(0));
    told(evening.says(&["status"]).exits(0));
    told(evening.says(&["doctor"]));
    assert!(opened(home).contains("hub.env"));
}

//! The storage host of an append-only hub, by the book, with a slip.

use std::fs;

use crate::common::{Home, Said};
use crate::evenings::Evening;

/// The host name in the hub's profile.
fn host_of(home: &Home) -> String {
    let profile = fs::read_to_string(home.profile()).unwrap();
    let line = profile.lines().find(|line| line.starts_with("host = "));
    line.unwrap().split('"').nth(1).unwrap().to_owned()
}

/// The profile of the page, with something else on one of its lines.
fn on_the_storage_host(home: &Home, change: (&str, &str), args: &[&str]) -> Said {
    let there = home.dir.path().join("storage");
    let config = there.join(".config/rustic-hapi");
    fs::create_dir_all(&config).unwrap();
    fs::copy(home.password(), config.join("hapi.password")).unwrap();
    let page = include_str!("../../docs/append-only.md");
    let profile = page.split("```toml\n").nth(2).unwrap();
    let profile = profile.split("```").next().unwrap();
    let profile = profile
        .replace("/srv/restic/hapi", home.repository().to_str().unwrap())
        .replace("the-hub", &host_of(home))
        .replace(change.0, change.1);
    fs::write(config.join("hapi.toml"), profile).unwrap();
    let mut command = home.command();
    command.env("HOME", &there).args(args);
    command.output().unwrap().into()
}

#[test]
fn a_profile_that_matches_no_snapshot_says_so_everywhere() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    let host = host_of(home);
    let as_it_is = ("", "");
    on_the_storage_host(home, as_it_is, &["forget", "--unattended", "--prune"]).exits(0);
    on_the_storage_host(home, as_it_is, &["status"]).exits(0);

    let wrong_host = (host.as_str(), "another");
    let here = format!("`{host}` with hapi");
    for (args, code) in [
        (&["forget", "--unattended", "--prune"][..], 3),
        (&["status"], 20),
        (&["snapshots"], 0),
        (&["doctor"], 1),
    ] {
        let said = on_the_storage_host(home, wrong_host, args).exits(code);
        let text = format!("{}{}", said.stdout, said.stderr);
        assert!(text.contains(&here), "{args:?}: {text}");
    }
    let said = on_the_storage_host(home, wrong_host, &["snapshots", "--all-hosts"]).exits(0);
    assert!(said.stdout.contains(&host), "{said:?}");
    assert_eq!(home.ids("hapi").len(), 1);
}

#[test]
fn a_series_that_the_hub_does_not_have_is_told_with_those_that_it_has() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.edit_profile(|text| text.replace("extends = \"hapi\"", "extends = \"hapi-stock\""));
    home.snapshot().exits(0);
    let said = on_the_storage_host(home, ("", ""), &["status"]).exits(20);
    assert!(said.stderr.contains("`hapi-weekly`"), "{said:?}");
    assert!(said.stderr.contains("with hapi;"), "{said:?}");
    assert!(said.stderr.contains("`extends`"), "{said:?}");
}

#[test]
fn secrets_that_the_hub_keeps_are_not_denied_by_the_storage_host() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    let target = home.dir.path().join("back");
    let identity = home.identity();
    let restored = on_the_storage_host(
        home,
        ("", ""),
        &[
            "restore",
            "--target",
            target.to_str().unwrap(),
            "--identity",
            identity.to_str().unwrap(),
        ],
    )
    .exits(0);
    assert!(restored.stdout.contains("hub.env"), "{restored:?}");
    let drilled = on_the_storage_host(
        home,
        ("", ""),
        &["drill", "--identity", identity.to_str().unwrap()],
    )
    .exits(0);
    assert!(drilled.stdout.contains("hub.env"), "{drilled:?}");
    let status = on_the_storage_host(home, ("", ""), &["status"]).exits(0);
    assert!(!status.stderr.contains("in no snapshot"), "{status:?}");
    let kit = on_the_storage_host(home, ("", ""), &["recovery-kit"]);
    assert!(!kit.stdout.contains("Secrets are not in"), "{kit:?}");
}

//! Which snapshot comes back where somebody did not say: never the one in which everything was lost.

use crate::common::{Home, Said, on_terminal, sqlite3};
use crate::evenings::{Evening, suggested};

fn sessions(home: &Home) -> u64 {
    sqlite3(&home.database(), "SELECT count(*) FROM sessions")
        .parse()
        .unwrap()
}

/// Somebody deleted all sessions and messages, and a run came before anybody saw it. How many there were, the sound
/// snapshot's id and the other's.
fn emptied(evening: &Evening) -> (u64, String, String) {
    let home = &evening.home;
    home.snapshot().exits(0);
    let were = sessions(home);
    assert!(were > 1);
    sqlite3(
        &home.database(),
        "DELETE FROM messages; DELETE FROM sessions",
    );
    let said = home.snapshot().exits(0);
    assert!(said.stderr.contains("tagged shrunk"), "{said:?}");
    let ids = home.ids("hapi");
    (were, ids[0][..8].to_owned(), ids[1][..8].to_owned())
}

#[test]
fn an_emptied_database_does_not_come_back_over_itself() {
    let evening = Evening::of_root();
    let home = &evening.home;
    let (were, sound, shrunk) = emptied(&evening);
    // Neither `--yes` nor `latest` says which of the two is meant.
    for call in [
        &["restore", "--in-place"][..],
        &["restore", "--in-place", "--yes"],
        &["restore", "latest", "--in-place", "--yes"],
        &["restore", "--in-place", "--source", "hapi.db"],
    ] {
        let said = evening.says(call).exits(2);
        assert_eq!(sessions(home), 0);
        let suggested = suggested(&said);
        assert_eq!(suggested.len(), 2, "{said:?}");
        assert!(suggested[0].contains(&sound), "{said:?}");
        assert!(suggested[1].contains(&shrunk), "{said:?}");
        assert!(
            said.stderr.contains(&format!("{were} sessions")),
            "{said:?}"
        );
        assert!(said.stderr.contains("0 sessions, 0 messages"), "{said:?}");
    }
    let said = evening.says(&["restore", "--in-place"]).exits(2);
    evening.follows(&suggested(&said)[0], &[]).exits(0);
    assert_eq!(sessions(home), were);
    // The other one is what it says, too.
    evening.follows(&suggested(&said)[1], &[]).exits(0);
    assert_eq!(sessions(home), 0);
}

#[test]
fn what_is_restored_or_drilled_is_the_last_sound_one_and_that_is_said() {
    let evening = Evening::of_root();
    let home = &evening.home;
    let (were, sound, shrunk) = emptied(&evening);
    let target = home.dir.path().join("restored");
    let said = home.restore(&target, &[]).exits(0);
    let told = said.stderr.lines().filter(|l| l.contains(&shrunk)).count();
    assert_eq!(told, 1, "{said:?}");
    assert!(said.stderr.contains(&sound), "{said:?}");
    let database = target.join(home.database().strip_prefix("/").unwrap());
    let count = sqlite3(&database, "SELECT count(*) FROM sessions");
    assert_eq!(count, were.to_string());

    let drilled = home.drill(&["--json"]).exits(0).json();
    let of = drilled["sources"].as_array().unwrap();
    let database = of.iter().find(|s| s["name"] == "hapi.db").unwrap();
    assert!(database["snapshot"].to_string().contains(&sound));
    assert_eq!(database["passed-over"][0]["shrunk"], true);

    // Acknowledged, it is a snapshot like any other.
    home.edit_profile(|text| format!("{text}\n[retention]\nacknowledged = [\"{shrunk}\"]\n"));
    evening.says(&["restore", "--in-place", "--yes"]).exits(0);
    assert_eq!(sessions(home), 0);
    let drilled = home.drill(&["--json"]).exits(0).json();
    assert!(drilled["sources"].to_string().contains(&shrunk));
}

#[test]
fn the_printed_page_finds_the_last_sound_one_with_restic_alone() {
    let evening = Evening::of_root();
    let home = &evening.home;
    let (were, _, shrunk) = emptied(&evening);
    assert_eq!(home.ids("shrunk").len(), 1);
    let page = evening.says(&["recovery-kit"]).exits(0).stdout;
    let begin = page.find("export RESTIC_REPOSITORY").unwrap();
    let end = page.find("Is the database whole?").unwrap();
    let lines = page[begin..end].lines().scan(true, |within, line| {
        match line {
            "```sh" => *within = true,
            "```" => *within = false,
            line if *within => return Some(Some(line)),
            _ => {}
        }
        Some(None)
    });
    let script: Vec<&str> = lines.flatten().collect();
    let script = format!("{}\necho \"restored into $scratch\"\n", script.join("\n"));
    let said = crate::common::feed("bash", &["-eu".as_ref()], script.as_bytes());
    let said = Said::from(said).exits(0);
    let scratch = said.stdout.split("restored into ").nth(1).unwrap().trim();
    let database = format!("{scratch}/hapi{}", home.database().display());
    let count = sqlite3(database.as_ref(), "SELECT count(*) FROM sessions");
    std::fs::remove_dir_all(scratch).unwrap();
    assert_eq!(count, were.to_string(), "{shrunk}");
}

#[test]
fn without_a_terminal_an_id_or_a_yes_is_needed() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    let were = sessions(home);
    let lose = || sqlite3(&home.database(), "DELETE FROM sessions");
    for call in [
        &["restore", "--in-place"][..],
        &["restore", "latest", "--in-place"],
    ] {
        lose();
        let said = evening.says(call).exits(2);
        assert_eq!(sessions(home), 0);
        evening.followed(&said, &[])[0]
            .code
            .eq(&0)
            .then_some(())
            .unwrap();
        assert_eq!(sessions(home), were);
        lose();
        evening.says(&[call, &["--yes"]].concat()).exits(0);
        assert_eq!(sessions(home), were);
    }
    // A try needs neither.
    evening
        .says(&["restore", "--in-place", "--dry-run"])
        .exits(0);
}

#[test]
fn on_a_terminal_both_are_shown_before_the_answer_counts() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    let were = sessions(home);
    sqlite3(
        &home.database(),
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions LIMIT 1)",
    );
    let mut command = home.command();
    command.args(["restore", "--in-place"]);
    let asked = |answer| -> Said { on_terminal(&command, &[("[y/N]", answer)]) };
    let said = asked("n").exits(2);
    assert_eq!(sessions(home), were - 1);
    let line = |begins: &str| {
        let lines = said.stdout.lines().map(str::trim);
        let found = lines.clone().find(|line| line.starts_with(begins));
        found.unwrap_or_else(|| panic!("{said:?}")).to_owned()
    };
    assert!(line("now:").contains(&format!("{} session", were - 1)));
    assert!(line("now:").contains("messages, the newest "));
    assert!(line("snapshot ").contains(&format!("{were} session")));
    asked("y").exits(0);
    assert_eq!(sessions(home), were);
}

#[test]
fn a_damaged_database_is_brought_back_by_its_id_alone() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    let sound = home.ids("hapi")[0][..8].to_owned();
    // A page in the middle, the schema left whole.
    let mut bytes = std::fs::read(home.database()).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0x5a);
    std::fs::write(home.database(), bytes).unwrap();
    let said = home.snapshot().exits(3);
    assert!(said.stderr.contains("DAMAGED"), "{said:?}");
    let said = evening.says(&["restore", "--in-place", "--yes"]).exits(2);
    assert!(said.stderr.contains("is damaged"), "{said:?}");
    let commands = suggested(&said);
    assert!(commands[0].contains(&sound), "{said:?}");
    evening.follows(&commands[0], &[]).exits(0);
    // The other one comes to be looked at, and never to where the hub is.
    let folder = home.dir.path().join("folder");
    let blanks = [("DIR", folder.to_str().unwrap())];
    evening.follows(&commands[1], &blanks).exits(3);
    let brought = folder.join(home.database().strip_prefix("/").unwrap());
    assert_ne!(sqlite3(&brought, "PRAGMA integrity_check"), "ok");
    let damaged = home.ids("hapi")[1][..8].to_owned();
    let said = evening
        .says(&["restore", &damaged, "--in-place", "--yes"])
        .exits(2);
    assert_eq!(suggested(&said)[0], commands[1], "{said:?}");
    assert_eq!(sqlite3(&home.database(), "PRAGMA integrity_check"), "ok");
}

#[test]
fn another_hosts_snapshot_is_named_by_its_id() {
    let evening = Evening::of_root();
    let home = &evening.home;
    home.snapshot().exits(0);
    home.edit_profile(|text| text.replace("host = \"", "host = \"other-"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let said = evening
        .says(&["restore", "--in-place", "--yes", "--host", host.trim()])
        .exits(2);
    assert!(said.stderr.contains("another host"), "{said:?}");
    evening.followed(&said, &[]).pop().unwrap().exits(0);
    // On a machine without a profile it is this machine's name that counts.
    let mut bare = home.bare(&["restore", "--in-place", "--yes", "--host", host.trim()]);
    Said::from(bare.output().unwrap()).exits(0);
    home.snapshot().exits(0);
    let other = format!("--host=other-{}", host.trim());
    let mut bare = home.bare(&["restore", "--in-place", "--yes", &other]);
    let said = Said::from(bare.output().unwrap()).exits(2);
    assert!(said.stderr.contains("another host"), "{said:?}");
}

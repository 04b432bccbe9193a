//! Destinations off the machine, each a real server on loopback, judged by stock restic on the folder
//! behind it or through its own client.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::servers::{Authority, Relay, Server, Sshd, answering, free_port};
use crate::common::{Home, Said, files_with, sqlite3};

/// The whole round: two runs, what they hold, everything back, and the other way round with restic.
fn round(home: &Home) {
    let complete = |said: Said| {
        let report = said.exits(0).json();
        for series in report["series"].as_array().unwrap() {
            assert_eq!(series["complete"], true, "{series}");
        }
        assert_eq!(report["retention"]["postponed"], serde_json::Value::Null);
    };
    complete(home.snapshot());
    sqlite3(
        &home.database(),
        "UPDATE sessions SET updated_at = updated_at + 1",
    );
    complete(home.snapshot());
    home.hapi_command(&["status", "--max-age", "1h"]).exits(0);
    home.drill(&["--identity", home.identity().to_str().unwrap()])
        .exits(0);
    home.hapi_command(&["check", "--read-data"]).exits(0);
    home.hapi_command(&["forget", "--prune"]).exits(0);
    home.restic(&["check", "--read-data"]);
    assert_eq!(home.restic_snapshots().len(), 3);
    // Nothing is left at work.
    let locks = fs::read_dir(home.repository().join("locks"));
    assert_eq!(locks.map_or(0, Iterator::count), 0);
}

/// Processes whose arguments hold a text.
pub fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push(line);
        }
    }
    found
}

#[test]
fn a_rest_server() {
    let home = Home::new();
    let server = Server::rest(&home.repository(), &[]);
    let said = home.init_at(&server.location()).exits(0);
    assert!(
        said.stderr.contains("on this machine (127.0.0.1)"),
        "{said:?}"
    );
    round(&home);
    // restic's own client, and a machine without a profile.
    let mut restic = home.restic_command(&["snapshots", "--json"]);
    restic.env("RESTIC_REPOSITORY", server.location());
    let listed = Said::from(restic.output().unwrap()).exits(0);
    assert_eq!(listed.json().as_array().unwrap().len(), 3);
    let target = home.dir.path().join("back");
    let mut bare = home.command();
    bare.env("HOME", home.dir.path().join("nobody"))
        .args(["restore", "--target", target.to_str().unwrap()])
        .args(["--repository", &server.location(), "--password-file"])
        .arg(home.password());
    Said::from(bare.output().unwrap()).exits(0);
    let copy = target.join(home.database().strip_prefix("/").unwrap());
    assert_eq!(sqlite3(&copy, "SELECT count(*) FROM sessions"), "78");
}

#[test]
fn a_rest_server_that_wants_a_user_and_a_password() {
    let home = Home::new();
    let (user, password) = ("joe", "s3cr3t-canary:/@");
    let server = Server::rest(&home.repository(), &["--user", user, "--pass", password]);
    let anonymous = server.location();
    let refused = home.init_at(&anonymous).exits(1);
    assert!(refused.stderr.contains("answers 401"), "{refused:?}");
    assert!(
        refused.stderr.contains("RESTIC_REST_USERNAME"),
        "{refused:?}"
    );

    // In the location, as restic has it: nothing shows it.
    let named = anonymous.replace("http://", "http://joe:s3cr3t-canary%3A%2F%40@");
    let mut said = vec![home.init_at(&named).exits(0)];
    home.cheapen();
    said.push(home.snapshot().exits(0));
    for args in [
        &["-v", "snapshot"][..],
        &["snapshots", "--json"],
        &["status", "--json"],
        &["doctor", "--json"],
        &["profile", "show"],
        &["env"],
        &["recovery-kit"],
        &["forget", "--json"],
        &["check"],
    ] {
        said.push(home.hapi_command(args));
    }
    for said in &said {
        // What doctor finds of this machine (there is no timer) is not the matter here.
        let usual = [0, 3].contains(&said.code) || said.stdout.contains("\"doctor\"");
        assert!(usual, "{said:?}");
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(!all.contains("s3cr3t"), "{all}");
    }
    assert_eq!(
        files_with(&home.path(), "s3cr3t"),
        [home.profile()],
        "only where it was written"
    );
    let mode = fs::metadata(home.profile()).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o077, 0);
    let env = home
        .hapi_command(&["env", "--with-credentials"])
        .exits(0)
        .stdout;
    let script = format!("{env} restic --no-cache snapshots --json");
    let listed = crate::common::run("sh", &["-c".as_ref(), script.as_ref()]);
    assert_eq!(listed.json().as_array().unwrap().len(), 3);

    // In the environment.
    home.edit_profile(|text| text.replace(&named, &anonymous));
    let with = |variables: &[(&str, &str)]| -> Said {
        let mut command = home.command();
        command.args(["snapshot", "-q"]);
        command.envs(variables.iter().copied());
        command.output().unwrap().into()
    };
    with(&[]).exits(1);
    with(&[
        ("RESTIC_REST_USERNAME", user),
        ("RESTIC_REST_PASSWORD", password),
    ])
    .exits(0);
    // A timer would have neither.
    let mut schedule = home.command();
    schedule
        .args(["schedule", "--cron"])
        .env("RESTIC_REST_USERNAME", user)
        .env("RESTIC_REST_PASSWORD", password);
    let refused = Said::from(schedule.output().unwrap()).exits(2);
    assert!(
        refused.stderr.contains("which scheduled runs do not have"),
        "{refused:?}"
    );
    let wrong = with(&[
        ("RESTIC_REST_USERNAME", user),
        ("RESTIC_REST_PASSWORD", "another-canary"),
    ])
    .exits(1);
    assert!(wrong.stderr.contains("answers 401"), "{wrong:?}");
    assert!(!wrong.stderr.contains("canary"), "{wrong:?}");

    // In the profile's environment file.
    home.environment_file(&format!(
        "RESTIC_REST_USERNAME={user}\nRESTIC_REST_PASSWORD='{password}'\n"
    ));
    with(&[]).exits(0);
    // The profile's counts before this shell's.
    with(&[("RESTIC_REST_PASSWORD", "other-canary")]).exits(0);
    let env = home.hapi_command(&["env"]).exits(0).stdout;
    assert!(!env.contains("REST_PASSWORD"), "{env}");
    // restic 0.14 knows no variables for them.
    let env = home.hapi_command(&["env", "--with-credentials"]).stdout;
    let script = format!("{env} restic --no-cache snapshots --json");
    crate::common::run("sh", &["-c".as_ref(), script.as_ref()]);
    let kit = home.hapi_command(&["recovery-kit"]).exits(0).stdout;
    assert!(kit.contains("user and password"), "{kit}");
    assert!(kit.contains("rest:http://USER:PASSWORD@127.0.0.1"), "{kit}");
    home.restic(&["check", "--read-data"]);
}

#[test]
fn init_puts_a_servers_password_where_a_timer_finds_it() {
    let home = Home::new();
    let (user, password) = ("joe", "s3cr3t \"canary\" \\ $1 `x` 'y'");
    let server = Server::rest(&home.repository(), &["--user", user, "--pass", password]);
    let file = home.profile().with_file_name("hapi.environment");
    let init = |given: &[(&str, &str)]| -> Said {
        let mut command = home.init_command(&server.location());
        command.args(["--environment-file", file.to_str().unwrap()]);
        command.envs(given.iter().copied());
        command.output().unwrap().into()
    };
    // Neither in this shell nor to be asked for: nothing is written.
    let said = init(&[("RESTIC_REST_USERNAME", user)]).exits(2);
    assert!(said.stderr.contains("RESTIC_REST_PASSWORD"), "{said:?}");
    assert!(!file.exists() && !home.profile().exists());
    // What is there for something else stays.
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "# mine\nHTTPS_PROXY=").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let all = [
        ("RESTIC_REST_USERNAME", user),
        ("RESTIC_REST_PASSWORD", password),
    ];
    let said = init(&all).exits(0);
    home.cheapen();
    assert!(!format!("{said:?}").contains("canary"), "{said:?}");
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.starts_with("# mine\nHTTPS_PROXY=\n"), "{written}");
    let mode = fs::metadata(&file).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o600);
    home.snapshot().exits(0);
    // Again, without the variables: they are there.
    init(&[]).exits(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
    // A folder needs none.
    let mut command = home.init_command("/nowhere");
    command.args(["--environment-file", file.to_str().unwrap()]);
    command.args(["--profile", "other"]);
    Said::from(command.output().unwrap()).exits(2);
}

#[test]
fn a_rest_server_with_a_private_authority() {
    let home = Home::new();
    let authority = Authority::new(home.dir.path());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let server = Server::rest(
        &home.repository(),
        &[
            "--cert",
            &text(&authority.certificate),
            "--key",
            &text(&authority.key),
        ],
    );
    let location = server.location().replace("http:", "https:");
    let begun = Instant::now();
    let refused = home.init_at(&location).exits(1);
    assert!(refused.stderr.contains("cannot be trusted"), "{refused:?}");
    assert!(refused.stderr.contains("RESTIC_CACERT=FILE"), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it is final");
    let mut init = home.init_command(&location);
    let init = init.env("RESTIC_CACERT", &authority.ca).output().unwrap();
    Said::from(init).exits(0);
    home.cheapen();
    home.environment_file(&format!("RESTIC_CACERT={}\n", authority.ca.display()));
    round(&home);
    let env = home.hapi_command(&["env"]).exits(0).stdout;
    assert!(env.contains("export RESTIC_CACERT="), "{env}");
    // restic 0.14 does not know the variable as yet.
    let script = format!("{env} restic --cacert \"$RESTIC_CACERT\" --no-cache snapshots");
    crate::common::run("sh", &["-c".as_ref(), script.as_ref()]);
    // What speaks no TLS.
    home.edit_profile(|text| text.replace("https:", "http:"));
    home.snapshot().exits(1);
}

#[test]
fn an_append_only_server_keeps_everything_and_its_own_side_forgets() {
    let home = Home::new();
    let server = Server::rest(&home.repository(), &["--append-only"]);
    home.init_at(&server.location()).exits(0);
    home.cheapen();
    let declare = |declared: bool| {
        home.edit_profile(|text| {
            let text = text.replace("append-only = true\n", "");
            match declared {
                true => text.replace("[repository]\n", "[repository]\nappend-only = true\n"),
                false => text,
            }
        });
    };
    declare(true);
    let at = |time: &str, args: &[&str]| home.at(time, args);
    at("2026-03-01T06:00:00Z", &["snapshot", "-q"]).exits(0);
    home.forge(|snapshots| {
        let main = snapshots.iter().find(|s| s.tags.contains("hapi"));
        let main = main.unwrap().clone();
        for day in 1..40 {
            let mut copy = main.clone();
            let time = copy.time.checked_add(jiff::Span::new().hours(24 * day));
            (copy.time, copy.original) = (time.unwrap(), None);
            snapshots.push(copy);
        }
    });
    let count = || home.restic_snapshots().len();
    let before = count();
    let said = at("2026-04-10T06:00:00Z", &["snapshot", "--json"]).exits(0);
    assert_eq!(said.json()["retention"]["left-to-server"], true);
    let said = at("2026-04-17T18:00:00Z", &["snapshot"]).exits(0);
    assert!(
        said.stdout
            .contains("retention left to the server's side (append-only)"),
        "{said:?}"
    );
    assert!(count() > before);
    assert!(!home.state().join("prune.json").exists());
    let refused = at("2026-04-17T18:00:00Z", &["forget", "--prune"]).exits(2);
    assert!(
        refused.stderr.contains("docs/append-only.md"),
        "{refused:?}"
    );
    at("2026-04-17T18:00:00Z", &["forget", "--dry-run"]).exits(0);
    home.drill(&[]).exits(0);

    // Undeclared, the refusal is told, and the snapshot is there.
    declare(false);
    let before = count();
    let said = at("2026-04-18T06:00:00Z", &["snapshot"]).exits(3);
    assert!(said.stderr.contains("answers 403"), "{said:?}");
    assert!(said.stderr.contains("append-only = true"), "{said:?}");
    assert!(count() > before);

    // On the storage host, by docs/append-only.md: a profile of its own beside the repository.
    declare(true);
    let document = include_str!("../docs/append-only.md");
    let profile = document
        .split("```toml\n")
        .map(|block| block.split("```").next().unwrap())
        .find(|block| block.contains("/srv/restic/hapi"))
        .unwrap();
    let storage = home.dir.path().join("storage");
    let config = storage.join(".config/rustic-hapi");
    fs::create_dir_all(&config).unwrap();
    let host = crate::common::run("uname", &["-n".as_ref()]).stdout;
    let profile = profile
        .replace("/srv/restic/hapi", home.repository().to_str().unwrap())
        .replace("the-hub", host.trim());
    fs::write(config.join("hapi.toml"), profile).unwrap();
    fs::copy(home.password(), config.join("hapi.password")).unwrap();
    let before = count();
    let mut forget = home.command();
    forget
        .env("HOME", &storage)
        .env("RUSTIC_HAPI_TEST_NOW", "2026-04-18T07:00:00Z")
        .args(["forget", "--unattended", "--prune"]);
    Said::from(forget.output().unwrap()).exits(0);
    assert!(count() < before, "{} of {before}", count());
    at("2026-04-18T18:00:00Z", &["snapshot", "-q"]).exits(0);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn sftp() {
    let home = Home::new();
    let sshd = Sshd::start(&home.dir.path().join("sshd"), &home.path());
    let location = sshd.location(&home.repository());
    let unknown = home.init_at(&location).exits(1);
    assert!(
        unknown.stderr.contains("Host key verification failed"),
        "{unknown:?}"
    );
    let by_hand = format!("`ssh -p {} {}@127.0.0.1`", sshd.server.port, sshd.user);
    assert!(unknown.stderr.contains(&by_hand), "{unknown:?}");
    sshd.known_to(&home.path());
    let init = home.init_at(&location).exits(0);
    home.cheapen();
    assert!(init.stderr.contains("on this machine ("), "{init:?}");
    round(&home);
    // What is something else, or a file, or not there.
    let foreign = home.dir.path().join("foreign");
    fs::create_dir_all(foreign.join("photos")).unwrap();
    fs::write(foreign.join("readme.txt"), "mine").unwrap();
    for (path, code, fact) in [
        (
            foreign.clone(),
            1,
            "contains something that is not a restic repository",
        ),
        (
            foreign.join("readme.txt"),
            1,
            "contains something that is not",
        ),
        (foreign.join("missing"), 10, "the folder does not exist"),
        (foreign.join("photos"), 10, "the place is empty"),
    ] {
        let place = sshd.location(&path);
        let args = ["--repository", &place, "snapshots"];
        let said = home.hapi_command(&args).exits(code);
        assert!(said.stderr.contains(fact), "{said:?}");
        if code == 1 {
            let other = Home::new();
            crate::common::copy(&home.path().join(".ssh"), &other.path().join(".ssh"));
            other.init_at(&place).exits(1);
        }
    }
    assert_eq!(
        fs::read_dir(&foreign).unwrap().count(),
        2,
        "nothing was written"
    );
    // Another key of the server's than the one that is known.
    let known = home.path().join(".ssh/known_hosts");
    let other = fs::read_to_string(home.path().join(".ssh/id_ed25519.pub")).unwrap();
    let port = sshd.server.port;
    fs::write(&known, format!("[127.0.0.1]:{port} {other}")).unwrap();
    let mismatch = home.snapshot().exits(1);
    assert!(mismatch.stderr.contains("has changed"), "{mismatch:?}");
    let forget = format!("-R \"[127.0.0.1]:{port}\"`");
    assert!(mismatch.stderr.contains(&forget), "{mismatch:?}");
    sshd.known_to(&home.path());
    // A key that the server does not let in: that is final.
    let authorized = home.dir.path().join("sshd/authorized_keys");
    let kept = fs::read(&authorized).unwrap();
    fs::write(&authorized, "").unwrap();
    let begun = Instant::now();
    let refused = home.snapshot().exits(1);
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
    assert!(refused.stderr.contains("authorized_keys"), "{refused:?}");
    fs::write(&authorized, kept).unwrap();
    home.snapshot().exits(0);
    let left = processes_with(&format!("-p {port} "));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn s3() {
    let home = Home::new();
    let (key, secret) = (
        "AKIAIOSFODNN7EXAMPLE",
        "canary/K7MDENG/bPxRfiCYEXAMPLEKEYwJalrXUtn",
    );
    fs::create_dir_all(home.repository().parent().unwrap().join("s3/bucket")).unwrap();
    let server = Server::s3(&home.dir.path().join("s3"), key, secret);
    let location = format!("s3:http://127.0.0.1:{}/bucket/hapi", server.port);
    // So that the folder behind it is the one that is judged.
    std::os::unix::fs::symlink(home.dir.path().join("s3/bucket/hapi"), home.repository()).unwrap();
    let mut init = home.init_command(&location);
    init.envs([
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ]);
    Said::from(init.output().unwrap()).exits(0);
    let without = home.snapshot().exits(1);
    assert!(without.stderr.contains("AWS_ACCESS_KEY_ID"), "{without:?}");
    home.environment_file(&format!(
        "AWS_ACCESS_KEY_ID={key}\nAWS_SECRET_ACCESS_KEY={secret}\n"
    ));
    round(&home);
    assert!(files_with(&home.state(), "canary/").is_empty());
    let place = format!("s3:http://127.0.0.1:{}/nowhere/hapi", server.port);
    let nowhere = home
        .hapi_command(&["--repository", &place, "snapshots"])
        .exits(1);
    assert!(nowhere.stderr.contains("no such bucket"), "{nowhere:?}");
    let empty = format!("s3:http://127.0.0.1:{}/bucket/elsewhere", server.port);
    home.hapi_command(&["--repository", &empty, "snapshots"])
        .exits(10);
    let web = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let no_store = format!("s3:http://127.0.0.1:{}/bucket/hapi", answering(web));
    home.hapi_command(&["--repository", &no_store, "snapshots"])
        .exits(1);
    // restic's own S3 client.
    let env = home
        .hapi_command(&["env", "--with-credentials"])
        .exits(0)
        .stdout;
    let script = format!("{env} restic --no-cache check --read-data");
    crate::common::run("sh", &["-c".as_ref(), script.as_ref()]);
}

#[test]
fn a_remote_of_rclones_own_configuration() {
    let home = Home::new();
    let config = home.dir.path().join("rclone.conf");
    fs::write(&config, "[disk]\ntype = local\n").unwrap();
    let location = format!("rclone:disk:{}", home.repository().display());
    let mut init = home.init_command(&location);
    let init = init.env("RCLONE_CONFIG", &config).output().unwrap();
    Said::from(init).exits(0);
    home.cheapen();
    let missing = home.snapshot().exits(1);
    assert!(missing.stderr.contains("rclone listremotes"), "{missing:?}");
    home.environment_file(&format!("RCLONE_CONFIG={}\n", config.display()));
    round(&home);

    // What everybody could read among the arguments.
    let telling = "rclone::s3,provider=Other,access_key_id=canary,secret_access_key=canary2:b/p";
    let said = home
        .hapi_command(&["--repository", telling, "snapshots"])
        .exits(2);
    assert!(said.stderr.contains("it cannot contain"), "{said:?}");
    assert!(!said.stderr.contains("canary"), "{said:?}");

    // Variables of rclone's own have no say in how it speaks to us.
    let mut odd = home.command();
    odd.args(["snapshots"])
        .env("RCLONE_QUIET", "true")
        .env("RCLONE_USE_JSON_LOG", "true")
        .env("RCLONE_LOG_FILE", "/dev/null");
    Said::from(odd.output().unwrap()).exits(0);

    // Without the program.
    let mut command = home.command();
    let nowhere = command.env("PATH", "/nonexistent").args(["snapshot"]);
    let said = Said::from(nowhere.output().unwrap()).exits(1);
    assert!(
        said.stderr.contains("needs the program `rclone`"),
        "{said:?}"
    );
    assert!(said.stderr.contains("apt install rclone"), "{said:?}");
}

#[test]
fn nothing_but_a_definite_absence_is_no_repository() {
    let home = Home::new();
    let server = Server::rest(&home.repository(), &[]);
    home.init_at(&server.location()).exits(0);
    home.cheapen();
    let told = |location: &str, code: i32, fact: &str, hint: &str| {
        let begun = Instant::now();
        let said = home
            .hapi_command(&["--repository", location, "snapshot"])
            .exits(code);
        assert!(said.stderr.contains(fact), "{location}: {said:?}");
        assert!(said.stderr.contains(hint), "{location}: {said:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "{location}: {:?}",
            begun.elapsed()
        );
    };
    let web = |answer| format!("rest:http://127.0.0.1:{}/x/", answering(answer));
    told(
        &web("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        1,
        "answers 401",
        "are user and password right?",
    );
    told(
        &web("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        1,
        "answers 403",
        "may it read and write at this path?",
    );
    told(
        &web("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        1,
        "answers 404 to everything",
        "are host, port and path right?",
    );
    told(
        &web("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        1,
        "answers 500",
        "the server's log",
    );
    told(
        &web(
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<p/>",
        ),
        1,
        "is not a server for restic repositories",
        "rest-server",
    );
    told(&web("SSH-2.0-OpenSSH_9.2\r\n"), 1, "127.0.0.1", "hint: ");
    told(
        &format!("rest:http://127.0.0.1:{}/", free_port()),
        1,
        "Connection refused",
        "is the server running",
    );
    told(
        "rest:http://nowhere.invalid:8000/",
        1,
        "cannot be reached",
        "is the name right",
    );
    let tls = server.location().replace("http:", "https:");
    told(&tls, 1, "127.0.0.1", "hint: ");
    // Definitely nothing.
    told(
        &format!("{}elsewhere/", server.location()),
        10,
        "the place is empty",
        "is the path right",
    );
    // Something else; and a repository that lost its config.
    let folder = home.dir.path().join("remains");
    fs::create_dir_all(&folder).unwrap();
    crate::common::copy(&home.repository(), &folder);
    fs::remove_file(folder.join("config")).unwrap();
    let remains = Server::rest(&folder, &[]);
    home.snapshot().exits(0);
    crate::common::copy(
        &home.repository().join("snapshots"),
        &folder.join("snapshots"),
    );
    told(
        &remains.location(),
        1,
        "whose file `config` is missing",
        "put `config` back",
    );
    // Another repository.
    let other = Home::new();
    let foreign = Server::rest(&other.repository(), &[]);
    other.init_at(&foreign.location()).exits(0);
    fs::copy(home.password(), other.password()).unwrap();
    let password = other.password();
    let theirs = home.hapi_command(&[
        "--repository",
        &foreign.location(),
        "--password-file",
        password.to_str().unwrap(),
        "snapshot",
    ]);
    assert_eq!(theirs.code, 12, "{theirs:?}");
    let again = Home::new();
    fs::create_dir_all(again.password().parent().unwrap()).unwrap();
    fs::copy(home.password(), again.password()).unwrap();
    let twin = Server::rest(&again.repository(), &[]);
    again.init_at(&twin.location()).exits(0);
    told(&twin.location(), 1, "has the id", "the right path?");
    // A relay that nothing is behind.
    let relay = Relay::before(free_port());
    told(&relay.location(), 1, "the connection to", "hint: ");
}

#[test]
fn no_credentials_stand_in_any_arguments() {
    let home = Home::new();
    let config = home.dir.path().join("rclone.conf");
    fs::write(&config, "[disk]\ntype = local\n").unwrap();
    let location = format!("rclone:disk:{}", home.repository().display());
    let mut init = home.init_command(&location);
    init.env("RCLONE_CONFIG", &config);
    Said::from(init.output().unwrap()).exits(0);
    home.cheapen();
    home.environment_file(&format!("RCLONE_CONFIG={}\n", config.display()));
    let pause = home.dir.path().join("pause");
    fs::write(&pause, "").unwrap();
    let mut child = home
        .command()
        .args(["snapshot", "-q"])
        .env("RUSTIC_HAPI_TEST_FAULT", "pause:hapi.db")
        .env("RUSTIC_HAPI_TEST_PAUSE", &pause)
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let served = loop {
        let found = processes_with(&format!("disk:{}", home.repository().display()));
        if !found.is_empty() {
            break found;
        }
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(20));
    };
    for line in &served {
        assert!(
            !line.contains("--user") && !line.contains("--pass"),
            "{line}"
        );
        // A random name of 48 digits would stand out.
        let long = line
            .split(|c: char| !c.is_ascii_hexdigit())
            .any(|word| word.len() >= 48);
        assert!(!long, "{line}");
    }
    // Ended with us, however we end.
    child.kill().unwrap();
    child.wait().unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while !processes_with(&format!("disk:{}", home.repository().display())).is_empty() {
        assert!(Instant::now() < end, "rclone outlives us");
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::remove_file(&pause).unwrap();
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
}

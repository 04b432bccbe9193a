//! Ways to a storage host that the system's own ssh goes: whatever works in the operator's shell works for
//! `sftp:`. Each is a real sshd on loopback, judged by stock restic.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::servers::{Relay, Sshd, keygen};
use crate::common::{Home, Said, Tmpfs, files_below, run, sqlite3};

const SUBSYSTEM: &str = "Subsystem sftp internal-sftp\n";

/// A folder of sshd's beside the home.
fn folder(home: &Home, name: &str) -> PathBuf {
    home.dir.path().join(name)
}

/// What the home's ssh is told.
fn configure(home: &Home, text: &str) {
    fs::write(home.path().join(".ssh/config"), text).unwrap();
}

/// A run, and restic's own look at what it left.
#[track_caller]
fn works(home: &Home) {
    home.snapshot().exits(0);
    home.change();
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
}

/// The same as who has this home by the password database, too: then OpenSSH looks there by itself.
fn as_owner(home: &Home, args: &[&str]) -> Command {
    let passwd = home.dir.path().join("passwd");
    let line = format!("root:x:0:0:root:{}:/bin/sh\n", home.path().display());
    fs::write(&passwd, line).unwrap();
    let script = format!(
        "mount --bind '{}' /etc/passwd && exec \"$0\" \"$@\"",
        passwd.display()
    );
    home.through("unshare", &["-m", "sh", "-c", &script], args)
}

#[track_caller]
fn wait_for(mut it: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !it() {
        assert!(Instant::now() < end, "it never came");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_alias_and_a_jump_host() {
    let home = Home::new();
    let (nas, jump) = (folder(&home, "nas"), folder(&home, "jump"));
    let nas = Sshd::start(&nas, &home.path());
    let jump = Sshd::with(&jump, &home.path(), "", None);
    let known = nas.keys(nas.server.port) + &jump.keys(jump.server.port);
    fs::write(home.path().join(".ssh/known_hosts"), known).unwrap();
    let user = &nas.user;
    let host = |name: &str, port: u16, more: &str| {
        format!("Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n{more}")
    };
    // What nobody wants of a backup is undone.
    let nuisance = "  ProxyJump jump\n  RequestTTY force\n  RemoteCommand echo hello\n  LocalForward 127.0.0.1:1 127.0.0.1:1\n  LogLevel QUIET\n";
    configure(
        &home,
        &(host("nas", nas.server.port, nuisance) + &host("jump", jump.server.port, "")),
    );
    let location = format!("sftp:nas:{}", home.repository().display());
    let init = as_owner(&home, &["init", "--repository", &location, "--recipient"])
        .arg(&home.recipient)
        .output();
    let init = Said::from(init.unwrap()).exits(0);
    // 127.0.0.1 of the host in between is another machine.
    assert!(
        !init.stderr.contains("the repository is on this machine"),
        "{init:?}"
    );
    home.cheapen();
    let snapshot = || Said::from(as_owner(&home, &["snapshot"]).output().unwrap());
    snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
    // Nobody jumps through a host that is away.
    drop(jump);
    let away = snapshot().exits(1);
    assert!(away.stderr.contains("Connection refused"), "{away:?}");

    // With `--home` of somebody else, who names for the host in between what a `~` would find.
    let jump = Sshd::with(&folder(&home, "again"), &home.path(), "", None);
    let known = nas.keys(nas.server.port) + &jump.keys(jump.server.port);
    fs::write(home.path().join(".ssh/known_hosts"), known).unwrap();
    let files =
        "  IdentityFile ${HOME}/.ssh/id_ed25519\n  UserKnownHostsFile ${HOME}/.ssh/known_hosts\n";
    configure(
        &home,
        &(host("nas", nas.server.port, nuisance) + &host("jump", jump.server.port, files)),
    );
    home.snapshot().exits(0);
}

#[test]
fn a_certificate_of_the_host() {
    let home = Home::new();
    let folder = folder(&home, "sshd");
    fs::create_dir_all(&folder).unwrap();
    let authority = folder.join("authority");
    keygen(&authority, "ed25519");
    let lines = format!(
        "{SUBSYSTEM}HostCertificate {}/host-cert.pub\n",
        folder.display()
    );
    let mut sshd = Sshd::with(&folder, &home.path(), &lines, None);
    let args = [
        "-q",
        "-s",
        authority.to_str().unwrap(),
        "-I",
        "nas",
        "-h",
        "-n",
        "127.0.0.1",
    ];
    let key = folder.join("host.pub");
    let args: Vec<_> = args
        .iter()
        .map(AsRef::as_ref)
        .chain([key.as_os_str()])
        .collect();
    run("ssh-keygen", &args);
    sshd.server.again(&[]);
    let public = fs::read_to_string(authority.with_extension("pub")).unwrap();
    let known = format!("@cert-authority [127.0.0.1]:{} {public}", sshd.server.port);
    fs::write(home.path().join(".ssh/known_hosts"), known).unwrap();
    home.init_at(&sshd.location(&home.repository())).exits(0);
    home.cheapen();
    works(&home);
}

/// An agent with one key, ended with the value.
struct Agent(Child, PathBuf);

impl Agent {
    fn with(key: &Path, socket: PathBuf) -> Self {
        let agent = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn();
        let agent = Self(agent.unwrap(), socket);
        wait_for(|| agent.1.exists());
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", &agent.1)
            .status();
        assert!(added.unwrap().success());
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn a_key_in_an_agent_alone() {
    let home = Home::new();
    let sshd = Sshd::start(&folder(&home, "sshd"), &home.path());
    sshd.known_to(&home.path());
    let location = sshd.location(&home.repository());
    home.init_at(&location).exits(0);
    home.cheapen();
    let key = home.path().join(".ssh/id_ed25519");
    let agent = Agent::with(&key, folder(&home, "agent"));
    fs::remove_file(&key).unwrap();
    fs::remove_file(key.with_extension("pub")).unwrap();
    let without = home.snapshot().exits(1);
    assert!(without.stderr.contains("Permission denied"), "{without:?}");
    assert!(without.stderr.contains("SSH_AUTH_SOCK"), "{without:?}");
    home.environment_file(&format!("SSH_AUTH_SOCK={}\n", agent.1.display()));
    works(&home);
}

#[test]
fn a_server_that_asks_for_nothing_as_tailscales_does() {
    let home = Home::new();
    // An account without a password, in a namespace of its own.
    let files = folder(&home, "etc");
    fs::create_dir_all(&files).unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let account = format!("hapi-guest:x:0:0::{}:/bin/sh\n", home.dir.path().display());
    fs::write(files.join("passwd"), passwd + &account).unwrap();
    let shadow = fs::read_to_string("/etc/shadow").unwrap();
    fs::write(
        files.join("shadow"),
        shadow + "hapi-guest::20000:0:99999:7:::\n",
    )
    .unwrap();
    fs::set_permissions(files.join("shadow"), fs::Permissions::from_mode(0o600)).unwrap();
    let script = format!(
        "mount --bind '{0}/passwd' /etc/passwd && mount --bind '{0}/shadow' /etc/shadow && exec \"$0\" \"$@\"",
        files.display()
    );
    let lines = format!(
        "{SUBSYSTEM}PasswordAuthentication yes\nPermitEmptyPasswords yes\nPermitRootLogin yes\nPubkeyAuthentication no\n"
    );
    let mut sshd = Sshd::with(
        &folder(&home, "sshd"),
        &home.path(),
        &lines,
        Some(&["unshare", "-m", "sh", "-c", &script]),
    );
    sshd.user = "hapi-guest".to_owned();
    sshd.known_to(&home.path());
    fs::remove_file(home.path().join(".ssh/id_ed25519")).unwrap();
    home.init_at(&sshd.location(&home.repository())).exits(0);
    home.cheapen();
    works(&home);
}

#[test]
fn servers_that_give_no_files() {
    let home = Home::new();
    let told = |name: &str, lines: &str, facts: &[&str], least: u64, most: u64| {
        let sshd = Sshd::with(&folder(&home, name), &home.path(), lines, None);
        sshd.known_to(&home.path());
        let begun = Instant::now();
        let said = home.init_at(&sshd.location(&home.repository())).exits(1);
        for fact in facts {
            assert!(said.stderr.contains(fact), "{name}: {said:?}");
        }
        let took = begun.elapsed().as_secs();
        assert!((least..most).contains(&took), "{name}: {took} s");
    };
    told(
        "none",
        "",
        &["subsystem request failed", "Subsystem sftp internal-sftp"],
        0,
        8,
    );
    let chatty = format!("{SUBSYSTEM}ForceCommand echo Welcome to the storage host\n");
    told(
        "chatty",
        &chatty,
        &["does not speak SFTP", "must print nothing"],
        0,
        12,
    );
    // As Tailscale's `check` does it: a page to open, and the server waits.
    let banner = folder(&home, "banner");
    fs::write(
        &banner,
        "To authenticate, visit: https://login.example/a/1234\n",
    )
    .unwrap();
    let asking = format!(
        "{SUBSYSTEM}Banner {}\nForceCommand sleep 300\n",
        banner.display()
    );
    told(
        "asking",
        &asking,
        &[
            "no answer within 30 s",
            "https://login.example/a/1234",
            "without one",
        ],
        29,
        50,
    );
    assert!(!home.repository().exists());
}

#[test]
fn without_the_program() {
    let home = Home::new();
    let mut init = home.init_command("sftp:nas:/srv/hapi");
    init.env("PATH", "/nonexistent");
    let said = Said::from(init.output().unwrap()).exits(1);
    assert!(said.stderr.contains("needs the program `ssh`"), "{said:?}");
    let odd = home.init_at("sftp:-oProxyCommand=touch /tmp/x:/p").exits(2);
    assert!(
        odd.stderr.contains("hint: ") || odd.stderr.contains("sftp:user@host"),
        "{odd:?}"
    );
}

#[test]
fn a_full_disk_is_called_one() {
    let home = Home::new();
    let disk = Tmpfs::mount(home.repository(), "size=6m");
    let sshd = Sshd::start(&folder(&home, "sshd"), &home.path());
    sshd.known_to(&home.path());
    home.init_at(&sshd.location(&home.repository())).exits(0);
    home.cheapen();
    home.snapshot().exits(0);
    sqlite3(
        &home.database(),
        "CREATE TABLE bulk(b BLOB); INSERT INTO bulk VALUES (randomblob(12000000))",
    );
    let begun = Instant::now();
    let said = home.snapshot().exits(1);
    assert!(said.stderr.contains("the disk is full"), "{said:?}");
    assert!(said.stderr.contains("forget --prune"), "{said:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "it is final");
    // What it could not write whole is gone, and so is the room it took.
    let left = unfinished(&home);
    assert!(left.is_empty(), "{left:?}");
    disk.remount("size=64m");
    home.restic(&["check", "--read-data"]);
    home.snapshot().exits(0);
    home.restic(&["check", "--read-data"]);
}

#[test]
fn a_chroot() {
    let home = Home::new();
    let room = folder(&home, "room");
    fs::create_dir_all(&room).unwrap();
    fs::set_permissions(&room, fs::Permissions::from_mode(0o755)).unwrap();
    // Every folder above has to be root's alone, which /tmp is not.
    let script = format!(
        "mount --bind '{}' /mnt && exec \"$0\" \"$@\"",
        room.display()
    );
    let lines = format!("{SUBSYSTEM}ChrootDirectory /mnt\nForceCommand internal-sftp\n");
    let sshd = Sshd::with(
        &folder(&home, "sshd"),
        &home.path(),
        &lines,
        Some(&["unshare", "-m", "sh", "-c", &script]),
    );
    sshd.known_to(&home.path());
    std::os::unix::fs::symlink(room.join("backup/hapi"), home.repository()).unwrap();
    // Absolute is what stands at its root; relative is from where one lands there.
    home.init_at(&sshd.location(Path::new("/backup/hapi")))
        .exits(0);
    home.cheapen();
    works(&home);
    let relative = format!(
        "sftp://{}@127.0.0.1:{}/backup/hapi",
        sshd.user, sshd.server.port
    );
    home.hapi_command(&["--repository", &relative, "snapshots"])
        .exits(0);
}

#[test]
fn the_account_and_the_frozen_folder_of_the_page_about_proxmox() {
    let page = include_str!("../docs/proxmox.md");
    let block = page
        .split("```\n")
        .find(|block| block.contains("Match User hapi"))
        .unwrap();
    let home = Home::new();
    let at = home.dir.path();
    // sshd reads the keys as the account.
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(home.repository()).unwrap();
    std::os::unix::fs::chown(home.repository(), Some(1000), Some(1000)).unwrap();
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let others: String = passwd
        .lines()
        .filter(|line| !line.contains(":1000:"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(
        at.join("passwd"),
        others + "hapi:x:1000:1000::/srv/jail:/bin/sh\n",
    )
    .unwrap();
    fs::write(at.join("hapi.conf"), block).unwrap();
    let script = format!(
        "mount --bind '{0}/passwd' /etc/passwd && mount -t tmpfs -o mode=755 tmpfs /srv && install -d -m 0755 /srv/jail /srv/jail/hapi && mount --bind '{1}' /srv/jail/hapi && exec \"$0\" \"$@\"",
        at.display(),
        home.repository().display()
    );
    let lines = format!("Include {}/hapi.conf\n{SUBSYSTEM}", at.display());
    let mut sshd = Sshd::with(
        &folder(&home, "sshd"),
        &home.path(),
        &lines,
        Some(&["unshare", "-m", "sh", "-c", &script]),
    );
    sshd.user = "hapi".to_owned();
    sshd.known_to(&home.path());
    fs::set_permissions(
        folder(&home, "sshd/authorized_keys"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    home.init_at(&sshd.location(Path::new("/hapi"))).exits(0);
    home.cheapen();
    let keys = files_below(&home.repository().join("keys"));
    std::os::unix::fs::chown(&keys[0].0, Some(1000), Some(1000)).unwrap();
    works(&home);
    // What it has no business with.
    let elsewhere = sshd.location(Path::new("/elsewhere"));
    let refused = home.init_at(&elsewhere);
    assert_ne!(refused.code, 0, "{refused:?}");

    // A snapshot of the dataset is such a folder that nobody can write to.
    let place = home.repository();
    let (frozen, password) = (place.to_str().unwrap(), home.password());
    let script = format!(
        "mount --bind '{frozen}' '{frozen}' && mount -o remount,ro,bind '{frozen}' && exec \"$0\" \"$@\""
    );
    let before = ["-m", "sh", "-c", &script];
    let reading = [
        "--repository",
        frozen,
        "--password-file",
        password.to_str().unwrap(),
    ];
    let target = at.join("back");
    for args in [
        &["snapshots"][..],
        &["restore", "--target", target.to_str().unwrap()],
    ] {
        let args = [&reading[..], args].concat();
        let said = home.through("unshare", &before, &args).output().unwrap();
        Said::from(said).exits(0);
    }
}

#[test]
fn a_path_with_spaces_and_other_letters_and_restics_own_client_on_both_sides() {
    let home = Home::new();
    let sshd = Sshd::start(&folder(&home, "sshd"), &home.path());
    sshd.known_to(&home.path());
    let place = folder(&home, "Sicherung für Hapi ☂ 100%");
    std::os::unix::fs::symlink(&place, home.repository()).unwrap();
    let location = sshd.location(&place);
    home.init_at(&location).exits(0);
    home.cheapen();
    works(&home);
    let ssh = home.path().join(".ssh");
    let command = format!(
        "sftp.command=ssh -p {} -o UserKnownHostsFile={1}/known_hosts -i {1}/id_ed25519 {2}@127.0.0.1 -s sftp",
        sshd.server.port,
        ssh.display(),
        sshd.user
    );
    let restic = |path: &Path, args: &[&str]| {
        let at = format!("sftp:{}@127.0.0.1:{}", sshd.user, path.display());
        let mut restic = home.restic_command(args);
        restic.env("RESTIC_REPOSITORY", at).args(["-o", &command]);
        Said::from(restic.output().unwrap()).exits(0)
    };
    // Ours, read, written and pruned by restic.
    restic(&place, &["check", "--read-data"]);
    restic(&place, &["backup", home.database().to_str().unwrap()]);
    restic(&place, &["prune"]);
    home.hapi_command(&["check", "--read-data"]).exits(0);
    home.snapshot().exits(0);
    // restic's, read by us.
    let theirs = folder(&home, "theirs");
    restic(&theirs, &["init"]);
    restic(&theirs, &["backup", home.database().to_str().unwrap()]);
    let said = home.hapi_command(&[
        "--repository",
        &sshd.location(&theirs),
        "snapshots",
        "--json",
    ]);
    assert!([0, 1].contains(&said.code), "{said:?}");
    // The files are the account's alone, as restic has them.
    for (path, _) in files_below(&place) {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}

/// Names of what is not whole, in all of the repository.
fn unfinished(home: &Home) -> Vec<PathBuf> {
    let files = files_below(&fs::canonicalize(home.repository()).unwrap());
    let names = files.into_iter().map(|(path, _)| path);
    names
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(".tmp-")
        })
        .collect()
}

#[test]
fn what_a_killed_upload_left_goes_after_a_day() {
    let home = Home::new();
    let sshd = Sshd::start(&folder(&home, "sshd"), &home.path());
    let relay = Relay::before(sshd.server.port);
    let known = home.path().join(".ssh/known_hosts");
    fs::write(known, sshd.keys(relay.port)).unwrap();
    let location = sshd.location_by(relay.port, &home.repository());
    home.init_at(&location).exits(0);
    home.cheapen();
    home.snapshot().exits(0);
    sqlite3(
        &home.database(),
        "CREATE TABLE bulk(b BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<20) INSERT INTO bulk SELECT randomblob(1000000) FROM n;",
    );
    let mut child = home.command().args(["-q", "snapshot"]).spawn().unwrap();
    relay.rate(2_000_000);
    let before = relay.sent();
    wait_for(|| relay.sent() > before + 3_000_000 && !unfinished(&home).is_empty());
    // So that it is in the middle of one.
    sshd.signal_sessions("-STOP");
    child.kill().unwrap();
    child.wait().unwrap();
    sshd.signal_sessions("-CONT");
    relay.rate(0);
    // ssh ends with us.
    let port = format!("-p {} ", relay.port);
    wait_for(|| crate::destinations::processes_with(&port).is_empty());
    let left = unfinished(&home);
    assert!(!left.is_empty());
    home.restic(&["unlock"]);
    home.restic(&["check", "--read-data"]);
    home.hapi_command(&["prune"]);
    home.snapshot().exits(0);
    home.hapi_command(&["check"]).exits(0);
    assert_eq!(unfinished(&home), left, "it may still be written");
    for path in &left {
        run(
            "touch",
            &["-d".as_ref(), "2 days ago".as_ref(), path.as_os_str()],
        );
    }
    let young = left[0].with_file_name(".tmp-young");
    fs::write(&young, "half").unwrap();
    home.hapi_command(&["forget", "--prune"]).exits(0);
    assert_eq!(unfinished(&home), [young]);
    home.restic(&["check", "--read-data"]);
}

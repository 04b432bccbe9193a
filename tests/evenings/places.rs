//! A place where a repository does not last: memory, a container's layer, a disk that is not mounted.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{Home, Said, Tmpfs, run};
use crate::evenings::suggested;

fn finding(said: &Said) -> (String, String) {
    let findings = said.json()["findings"].as_array().unwrap().clone();
    let other = findings
        .iter()
        .find(|f| f["subject"] == "other disk")
        .unwrap();
    (
        other["verdict"].as_str().unwrap().to_owned(),
        other["fact"].to_string(),
    )
}

/// `init` with a repository there, and without the override.
fn init_in<'a>(home: &'a Home, repository: &'a Path) -> [&'a str; 5] {
    let repository = repository.to_str().unwrap();
    [
        "init",
        "--repository",
        repository,
        "--recipient",
        &home.recipient,
    ]
}

#[test]
fn a_repository_in_memory_is_refused_by_init_and_fails_doctor() {
    let home = Home::new();
    let repository = home.repository();
    let _memory = Tmpfs::mount(repository.clone(), "size=50m,mode=0700");
    let call = init_in(&home, &repository);
    let said = home.hapi_command(&call).exits(1);
    assert!(said.stderr.contains("in memory (tmpfs)"), "{said:?}");
    assert_eq!(fs::read_dir(&repository).unwrap().count(), 0);
    assert!(!home.profile().exists());
    home.init().exits(0);
    assert_eq!(finding(&home.hapi_command(&["doctor", "--json"])).0, "warn");
    // A profile of before there was this: it goes on, and is told.
    home.edit_profile(|text| text.replace("allow-same-disk = true\n", ""));
    let said = home.snapshot().exits(0);
    assert!(said.stderr.contains("in memory (tmpfs)"), "{said:?}");
    let doctor = finding(&home.hapi_command(&["doctor", "--json"]));
    assert!(
        doctor.0 == "fail" && doctor.1.contains("in memory"),
        "{doctor:?}"
    );
}

#[test]
fn a_repository_in_a_containers_layer_is_warned_of() {
    let home = Home::new();
    let at = |name: &str| {
        let path = home.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let layer = home.repository();
    fs::create_dir(&layer).unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower").display(),
        at("upper").display(),
        at("work").display()
    );
    let mount = ["-t", "overlay", "-o", &options, "overlay"].map(std::ffi::OsStr::new);
    run("mount", &[&mount[..], &[layer.as_os_str()]].concat());
    let call = init_in(&home, &layer);
    let made = home.hapi_command(&call);
    let doctor = home.hapi_command(&["doctor", "--json"]);
    run("umount", &["-l".as_ref(), layer.as_os_str()]);
    let made = made.exits(0);
    assert!(
        format!("{made:?}").contains("container's own layer"),
        "{made:?}"
    );
    let found = finding(&doctor);
    assert!(
        found.0 == "warn" && found.1.contains("container's own layer"),
        "{found:?}"
    );
}

#[test]
fn a_disk_that_is_not_mounted_is_said_to_be_just_that() {
    let home = Home::new();
    let (disk, place) = (home.dir.path().join("disk"), home.dir.path().join("place"));
    fs::create_dir(&disk).unwrap();
    fs::create_dir(&place).unwrap();
    let repository = place.join("repository");
    let call = init_in(&home, &repository);
    // Nothing that mounts it is known: the override comes last.
    let said = home.hapi_command(&call).exits(1);
    let fact = format!("nothing is mounted at `{}`", repository.display());
    assert!(
        said.stderr.starts_with(&format!("error: {fact}")),
        "{said:?}"
    );
    let (first, last) = (
        said.stderr.find("mount that"),
        said.stderr.find("--allow-same-disk"),
    );
    assert!(first.is_some() && first < last, "{said:?}");
    assert!(
        suggested(&said)[0].starts_with("findmnt --target "),
        "{said:?}"
    );

    // Where fstab knows it, the command does it. In namespaces, whose fstab is another one.
    let fstab = home.dir.path().join("fstab");
    let line = format!(
        "{} {} fuse.bindfs defaults,noauto 0 0\n",
        disk.display(),
        place.display()
    );
    fs::write(&fstab, line).unwrap();
    let within = |script: &str| -> Said {
        let script = format!(
            "mount --bind {:?} /etc/fstab; sudo() {{ \"$@\"; }}; {script}; code=$?; umount -l {place:?} 2>&-; exit $code",
            fstab
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        for (name, value) in home.command().get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.output().unwrap().into()
    };
    let binary = env!("CARGO_BIN_EXE_rustic-hapi");
    let init = format!("{binary} {}", call.join(" "));
    let said = within(&init).exits(1);
    let command = suggested(&said)[0].clone();
    assert_eq!(command, format!("sudo mount {}", place.display()));
    within(&format!("{command} && {init} && {binary} snapshot -q")).exits(0);
    assert!(disk.join("repository/config").exists());
    // A later run without the disk, and what it says helps again.
    let said = within(&format!("{binary} snapshot")).exits(10);
    assert_eq!(suggested(&said)[0], command, "{said:?}");
    within(&format!("{command} && {binary} snapshot -q")).exits(0);
    assert!(!repository.exists());
}

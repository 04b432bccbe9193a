//! A unit is the service of systemd that a process belongs to: what would start it again.
//!
//! It is read from the process's control group and named only where a `systemctl` of this machine
//! can stop it.

use crate::machine::shell::quoted;

/// A service of systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// With its `.service`.
    pub name: String,
    /// The user id whose manager has it; `None` for the system's.
    pub user: Option<u32>,
}

impl Unit {
    /// The service in a `/proc/PID/cgroup`, of either version of cgroups.
    ///
    /// A service is below slices, and a user's one below that user's manager, which is a service
    /// itself. Anything else on the way is a session, or a container, whose inner services no
    /// `systemctl` of this machine knows.
    pub(super) fn of_cgroup(text: &str) -> Option<Self> {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let path = fields.next()?;
            matches!(controllers, "" | "name=systemd")
                .then(|| Self::of_path(path))
                .flatten()
        })
    }

    fn of_path(path: &str) -> Option<Self> {
        let mut user = None;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if part.ends_with(".slice") {
                continue;
            }
            let name = part.strip_suffix(".service")?;
            match name.strip_prefix("user@") {
                Some(id) if user.is_none() => user = Some(id.parse().ok()?),
                _ => {
                    return Some(Self {
                        name: part.to_owned(),
                        user,
                    });
                }
            }
        }
        None
    }

    pub(super) fn stop(&self) -> String {
        let name = quoted(&self.name);
        match self.user {
            None => format!("sudo systemctl stop {name}"),
            Some(user) if user == rustix::process::geteuid().as_raw() => {
                format!("systemctl --user stop {name}")
            }
            // Another user's manager answers to that user alone.
            Some(user) => format!(
                "sudo -u '#{user}' XDG_RUNTIME_DIR=/run/user/{user} systemctl --user stop {name}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Option<(String, Option<u32>)> {
        Unit::of_cgroup(text).map(|unit| (unit.name, unit.user))
    }

    fn hub(user: Option<u32>) -> Option<(String, Option<u32>)> {
        Some(("hapi-hub.service".into(), user))
    }

    #[test]
    fn services_of_the_system() {
        assert_eq!(unit("0::/system.slice/hapi-hub.service\n"), hub(None));
        // With a cgroup of its own below, as podman or `Delegate=yes` makes them.
        assert_eq!(
            unit("0::/system.slice/hapi-hub.service/libpod-payload-1f\n"),
            hub(None)
        );
        assert_eq!(
            unit("0::/system.slice/system-hapi.slice/hapi@one.service\n"),
            Some(("hapi@one.service".into(), None))
        );
    }

    #[test]
    fn services_of_a_user() {
        assert_eq!(
            unit("0::/user.slice/user-1000.slice/user@1000.service/app.slice/hapi-hub.service\n"),
            hub(Some(1000))
        );
    }

    #[test]
    fn version_one_and_both_at_once() {
        let text = "12:pids:/system.slice/other.service\n\
                    1:name=systemd:/system.slice/hapi-hub.service\n0::/\n";
        assert_eq!(unit(text), hub(None));
        let text = "1:name=systemd:/user.slice/user-7.slice/user@7.service/hapi-hub.service\n\
                    0::/user.slice/user-7.slice/user@7.service\n";
        assert_eq!(unit(text), hub(Some(7)));
    }

    #[test]
    fn what_no_systemctl_of_this_machine_stops() {
        for path in [
            "/",
            "",
            "/../../x.service",
            "/init.scope",
            "/user.slice/user-1000.slice/session-3.scope",
            "/user.slice/user-1000.slice/user@1000.service",
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-term.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-1f.scope/container",
            "/system.slice/docker-1f2e.scope",
            "/system.slice/docker-1f2e.scope/system.slice/hapi-hub.service",
            "/docker/1f2e/system.slice/hapi-hub.service",
            "/lxc/box/system.slice/hapi-hub.service",
        ] {
            assert_eq!(unit(&format!("0::{path}\n")), None, "{path}");
        }
        assert_eq!(unit("no cgroup at all"), None);
    }
}

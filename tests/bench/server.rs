//! The server that contenders write to: over REST with `--server`, over SFTP and a long way with `--link`.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::link;

use crate::Result;
use crate::costs::megabytes;

/// `rclone serve restic`, or sshd, on loopback, ended with the value.
pub struct Server {
    child: Child,
    /// Before the path of a repository.
    pub address: String,
    pub name: String,
    pub slow: bool,
}

impl Server {
    pub fn start(folder: &Path, rate: Option<u64>) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut command = Command::new("rclone");
        command
            .args(["serve", "restic", "--addr", &format!("127.0.0.1:{port}")])
            .env("RCLONE_CONFIG", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut name = ", over REST on loopback".to_owned();
        if let Some(rate) = rate {
            // Its `b` is bytes.
            command.args(["--bwlimit", &format!("{rate}b")]);
            let _ = write!(name, " at {} MB/s", megabytes(rate));
        }
        let child = command.arg(folder).spawn()?;
        let slow = rate.is_some();
        let server = Self {
            child,
            address: format!("rest:http://127.0.0.1:{port}"),
            name,
            slow,
        };
        server.listens(port)
    }

    /// sshd at the other end of a long way, called `nas` by the ssh that all contenders find on their PATH.
    pub fn over_link(dir: &Path) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let (ssh, bin) = (dir.join("home/.ssh"), dir.join("bin"));
        fs::create_dir_all(&ssh)?;
        fs::create_dir_all(&bin)?;
        fs::create_dir_all("/run/sshd")?;
        let (key, host) = (ssh.join("id_ed25519"), ssh.join("host"));
        for key in [&key, &host] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(key)
                .status()?;
            if !made.success() {
                return Err("`ssh-keygen` failed".into());
            }
        }
        let at = ssh.display();
        fs::write(
            ssh.join("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/id_ed25519.pub\nPidFile none\nStrictModes no\nUsePAM no\nSubsystem sftp internal-sftp\n"
            ),
        )?;
        let child = Command::new("/usr/sbin/sshd")
            .arg("-D")
            .arg("-f")
            .arg(ssh.join("sshd_config"))
            .stderr(Stdio::null())
            .spawn()?;
        let near = link::before(port)?;
        let public = fs::read_to_string(host.with_extension("pub"))?;
        fs::write(
            ssh.join("known_hosts"),
            format!("[127.0.0.1]:{near} {public}"),
        )?;
        fs::write(
            ssh.join("config"),
            format!(
                "Host nas\n  HostName 127.0.0.1\n  Port {near}\n  IdentityFile {at}/id_ed25519\n  UserKnownHostsFile {at}/known_hosts\n"
            ),
        )?;
        // OpenSSH does not look where HOME says.
        let wrapper = bin.join("ssh");
        let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F '{at}/config' \"$@\"\n");
        fs::write(&wrapper, script)?;
        fs::set_permissions(&wrapper, Permissions::from_mode(0o755))?;
        let server = Self {
            child,
            address: format!("sftp:nas:{}", dir.display()),
            name: link::NAME.to_owned(),
            slow: false,
        };
        server.listens(port)
    }

    fn listens(self, port: u16) -> Result<Self> {
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(self);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("the server does not listen".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its process id; one that is gone is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

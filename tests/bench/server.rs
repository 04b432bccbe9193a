//! The server that contenders write to over REST, with `--server`.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::costs::megabytes;

/// `rclone serve restic` on loopback, ended with the value.
pub struct Server {
    child: Child,
    pub port: u16,
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
            port,
            name,
            slow,
        };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("`rclone serve restic` does not listen".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its process id; one that is gone is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Real servers on loopback, each on a free port, ended by their process id when the test is done.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::run;

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A server process.
pub struct Server {
    child: Child,
    pub port: u16,
    program: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
}

impl Server {
    /// Starts one and waits until it listens.
    pub fn start(program: &Path, args: &[&str], envs: &[(&str, &str)], port: u16) -> Self {
        let mut server = Self::begin(program, args, envs, port);
        server.await_listening();
        server
    }

    fn begin(program: &Path, args: &[&str], envs: &[(&str, &str)], port: u16) -> Self {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let envs: Vec<_> = envs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self {
            child: spawn(program, &args, &envs),
            port,
            program: program.to_owned(),
            args,
            envs,
        }
    }

    /// `rclone serve restic`, Debian's.
    pub fn rest(folder: &Path, options: &[&str]) -> Self {
        Self::rest_by(Path::new("rclone"), folder, options)
    }

    /// The same with a current rclone.
    pub fn current_rest(folder: &Path, options: &[&str]) -> Self {
        Self::rest_by(&current_rclone(), folder, options)
    }

    fn rest_by(rclone: &Path, folder: &Path, options: &[&str]) -> Self {
        fs::create_dir_all(folder).unwrap();
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut args = vec!["serve", "restic", "--addr", &address];
        args.push(folder.to_str().unwrap());
        args.extend(options);
        Self::start(rclone, &args, &[("RCLONE_CONFIG", "/dev/null")], port)
    }

    /// `rclone serve s3` of a folder whose folders are the buckets.
    pub fn s3(folder: &Path, key: &str, secret: &str) -> Self {
        let port = free_port();
        let (address, pair) = (format!("127.0.0.1:{port}"), format!("{key},{secret}"));
        let args = [
            "serve",
            "s3",
            "--addr",
            &address,
            "--auth-key",
            &pair,
            folder.to_str().unwrap(),
        ];
        Self::start(
            &current_rclone(),
            &args,
            &[("RCLONE_CONFIG", "/dev/null")],
            port,
        )
    }

    pub fn location(&self) -> String {
        format!("rest:http://127.0.0.1:{}/", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        run("kill", &[name.as_ref(), self.pid().to_string().as_ref()]);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Starts it again on the same port, perhaps with other arguments.
    pub fn again(&mut self, more: &[&str]) {
        self.kill();
        let mut args = self.args.clone();
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        self.child = spawn(&self.program, &args, &self.envs);
        self.await_listening();
    }

    fn await_listening(&mut self) {
        let program = self.program.display();
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().unwrap().is_some();
            assert!(!ended, "{program} {:?} ended", self.args);
            assert!(Instant::now() < end, "{program} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that is frozen takes a SIGKILL, too.
        self.kill();
    }
}

fn spawn(program: &Path, args: &[String], envs: &[(String, String)]) -> Child {
    Command::new(program)
        .args(args)
        .envs(envs.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("`{}` is needed: {error}", program.display()))
}

/// The rclone that `tests/run.sh` puts beside Debian's: its S3 server is newer than that.
pub fn current_rclone() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    let path = cache.join("rustic-hapi/tools/bin/rclone");
    assert!(
        path.is_file(),
        "`{}` is needed: `bash tests/run.sh` puts it there",
        path.display()
    );
    path
}

/// A private certificate authority and a server's key and certificate for 127.0.0.1.
pub struct Authority {
    pub ca: PathBuf,
    pub key: PathBuf,
    pub certificate: PathBuf,
}

impl Authority {
    pub fn new(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let openssl = |args: &[&str]| {
            let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
            run("openssl", &args);
        };
        let (ca, ca_key) = (file("ca.pem"), file("ca.key"));
        let (key, request, certificate) = (file("s.key"), file("s.csr"), file("s.pem"));
        let extensions = file("s.ext");
        fs::write(&extensions, "subjectAltName=IP:127.0.0.1\n").unwrap();
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        openssl(
            &[
                &[
                    "req",
                    "-x509",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=a private authority",
                ],
                &curve[..],
                &["-keyout", &text(&ca_key), "-out", &text(&ca)],
            ]
            .concat(),
        );
        openssl(
            &[
                &["req", "-nodes", "-subj", "/CN=storage"],
                &curve[..],
                &["-keyout", &text(&key), "-out", &text(&request)],
            ]
            .concat(),
        );
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &text(&request),
            "-CA",
            &text(&ca),
            "-CAkey",
            &text(&ca_key),
            "-CAcreateserial",
            "-extfile",
            &text(&extensions),
            "-out",
            &text(&certificate),
        ]);
        Self {
            ca,
            key,
            certificate,
        }
    }
}

/// OpenSSH's sshd with throwaway keys; the client's key is put into a home.
pub struct Sshd {
    pub server: Server,
    pub user: String,
}

impl Sshd {
    pub fn start(folder: &Path, home: &Path) -> Self {
        Self::with(folder, home, "Subsystem sftp internal-sftp\n", None)
    }

    /// With these lines in its configuration, and through a program that starts it (`unshare`, say).
    pub fn with(folder: &Path, home: &Path, lines: &str, through: Option<&[&str]>) -> Self {
        let lines = format!("{lines}ListenAddress 127.0.0.1\n");
        let mut sshd = Self::there(folder, home, &lines, through.unwrap_or_default());
        sshd.server.await_listening();
        sshd
    }

    /// The same where it listens on what its lines say; nobody waits for it.
    pub fn there(folder: &Path, home: &Path, lines: &str, through: &[&str]) -> Self {
        fs::create_dir_all(folder).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        let ssh = home.join(".ssh");
        fs::create_dir_all(&ssh).unwrap();
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
        let (host_key, host_rsa, key) = (
            folder.join("host"),
            folder.join("host_rsa"),
            ssh.join("id_ed25519"),
        );
        keygen(&host_key, "ed25519");
        keygen(&host_rsa, "rsa");
        if !key.exists() {
            keygen(&key, "ed25519");
        }
        let authorized = folder.join("authorized_keys");
        fs::copy(key.with_extension("pub"), &authorized).unwrap();
        let port = free_port();
        let config = folder.join("sshd_config");
        // What stands first in it counts.
        let text = format!(
            "{lines}Port {port}\nHostKey {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nPasswordAuthentication no\nUsePAM no\n",
            host_key.display(),
            host_rsa.display(),
            authorized.display()
        );
        fs::write(&config, text).unwrap();
        let sshd = ["/usr/sbin/sshd", "-D", "-f", config.to_str().unwrap()];
        let line = [through, &sshd].concat();
        let server = Server::begin(Path::new(line[0]), &line[1..], &[], port);
        let user = run("id", &["-un".as_ref()]).stdout.trim().to_owned();
        Self { server, user }
    }

    /// Has the home know the server's keys.
    pub fn known_to(&self, home: &Path) {
        fs::write(home.join(".ssh/known_hosts"), self.keys(self.server.port)).unwrap();
    }

    /// The lines of `known_hosts` for it, reached by a port.
    pub fn keys(&self, port: u16) -> String {
        let own = self.server.port.to_string();
        let args = ["-p".as_ref(), own.as_ref(), "127.0.0.1".as_ref()];
        let keys = run("ssh-keyscan", &args).stdout;
        keys.replace(&format!("]:{own}"), &format!("]:{port}"))
    }

    pub fn location(&self, path: &Path) -> String {
        self.location_by(self.server.port, path)
    }

    /// By another port, that of a relay.
    pub fn location_by(&self, port: u16, path: &Path) -> String {
        format!("sftp://{}@127.0.0.1:{port}/{}", self.user, path.display())
    }

    /// Sends a signal to what serves a client, of which there may be more than one process.
    pub fn signal_sessions(&self, name: &str) {
        let mut pids = children(self.server.pid());
        let mut at = 0;
        while let Some(&pid) = pids.get(at) {
            pids.extend(children(pid));
            at += 1;
        }
        for pid in pids {
            _ = Command::new("kill").args([name, &pid.to_string()]).status();
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let list = list.unwrap_or_default();
    list.split_whitespace().flat_map(str::parse).collect()
}

/// A key without a passphrase.
pub fn keygen(path: &Path, kind: &str) {
    let args = ["-q", "-t", kind, "-N", "", "-f"].map(AsRef::as_ref);
    run("ssh-keygen", &[&args[..], &[path.as_os_str()]].concat());
}

/// A web server that has one answer to everything.
pub fn answering(answer: &'static str) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut request = [0; 4096];
                if client.read(&mut request).unwrap_or(0) > 0 {
                    _ = client.write_all(answer.as_bytes());
                }
            });
        }
    });
    port
}

/// A relay before a server: what goes through can be slowed, cut, or answered with 500.
pub struct Relay {
    pub port: u16,
    rules: Arc<Rules>,
}

#[derive(Default)]
struct Rules {
    /// Bytes a second towards the server; 0 is no limit.
    rate: AtomicU64,
    /// After so many bytes towards the server all connections break; 0 is never.
    cut_after: AtomicU64,
    /// Every so many-th request is answered with 500; 0 is none.
    fail_every: AtomicUsize,
    sent: AtomicU64,
    requests: AtomicUsize,
    failed: AtomicUsize,
}

impl Relay {
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rules = Arc::new(Rules::default());
        let shared = Arc::clone(&rules);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let rules = Arc::clone(&shared);
                thread::spawn(move || relay(client, server, &rules));
            }
        });
        Self { port, rules }
    }

    pub fn location(&self) -> String {
        format!("rest:http://127.0.0.1:{}/", self.port)
    }

    pub fn rate(&self, bytes: u64) {
        self.rules.rate.store(bytes, Ordering::SeqCst);
    }

    /// Breaks everything once so many more bytes went through; `None` mends it.
    pub fn cut_after(&self, bytes: Option<u64>) {
        let at = bytes.map_or(0, |bytes| self.sent() + bytes);
        self.rules.cut_after.store(at, Ordering::SeqCst);
    }

    pub fn fail_every(&self, nth: usize) {
        self.rules.fail_every.store(nth, Ordering::SeqCst);
    }

    /// Bytes that went towards the server.
    pub fn sent(&self) -> u64 {
        self.rules.sent.load(Ordering::SeqCst)
    }

    /// Requests that were answered with 500.
    pub fn failed(&self) -> usize {
        self.rules.failed.load(Ordering::SeqCst)
    }
}

fn relay(mut client: TcpStream, server: u16, rules: &Arc<Rules>) {
    let Ok(mut upstream) = TcpStream::connect(("127.0.0.1", server)) else {
        return;
    };
    let (Ok(mut back), Ok(mut answers)) = (client.try_clone(), upstream.try_clone()) else {
        return;
    };
    thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(n @ 1..) = answers.read(&mut chunk) {
            if back.write_all(&chunk[..n]).is_err() {
                break;
            }
        }
        _ = back.shutdown(Shutdown::Both);
    });
    let mut chunk = vec![0; 16 << 10];
    while let Ok(n @ 1..) = client.read(&mut chunk) {
        let begins = [&b"GET "[..], b"POST ", b"HEAD ", b"DELETE "]
            .iter()
            .any(|method| chunk[..n].starts_with(method));
        let nth = rules.fail_every.load(Ordering::SeqCst);
        if begins && nth > 0 && rules.requests.fetch_add(1, Ordering::SeqCst) % nth == nth - 1 {
            rules.failed.fetch_add(1, Ordering::SeqCst);
            // The body is not waited for: the connection ends with the answer.
            _ = client.write_all(
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
            thread::sleep(Duration::from_millis(20));
            break;
        }
        let sent = rules.sent.fetch_add(n as u64, Ordering::SeqCst) + n as u64;
        let cut = rules.cut_after.load(Ordering::SeqCst);
        if cut > 0 && sent > cut {
            break;
        }
        let rate = rules.rate.load(Ordering::SeqCst);
        if rate > 0 {
            thread::sleep(Duration::from_secs_f64(n as f64 / rate as f64));
        }
        if upstream.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
    _ = upstream.shutdown(Shutdown::Both);
    _ = client.shutdown(Shutdown::Both);
}

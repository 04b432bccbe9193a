//! A REST server keeps a repository's files and speaks restic's REST protocol
//! (<https://restic.readthedocs.io/en/stable/REST_backend.html>): rest-server, `rclone serve restic`.
//!
//! Nothing it says is taken for more than it says. "Not there" is a 404 and nothing else, what is
//! passing is tried again with growing pauses and what is final is not, and every byte that moves is a
//! sign of life. The engine's own client does neither: it takes a 401 or a 500 for "no repository",
//! waits ten minutes in silence for one answer, and has no place for restic's locks.

use std::error::Error as _;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hapi_sources::Stop;
use reqwest::blocking::{Body, Client, RequestBuilder, Response};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method, StatusCode, Url};
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend,
};
use sha2::{Digest, Sha256};

use crate::destination::access::Access;
use crate::destination::rclone::{Place, Rclone};
use crate::error::Error;

/// How long a server has to take a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long it has for the answer to a small question.
const ANSWER: Duration = Duration::from_secs(20);

/// How long it has for a file or a list; whoever watches for progress ends it sooner.
const TRANSFER: Duration = Duration::from_secs(15 * 60);

/// How long what was sent may go without an acknowledgement, while a cable is out, say.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// The first of the pauses between two attempts; each is twice the one before.
const PAUSE: Duration = Duration::from_millis(500);

/// After how many attempts, and how long after the first one failed, nothing more is tried.
const ATTEMPTS: (u32, Duration) = (6, Duration::from_secs(15));

/// How often something that does not work is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// For what a run is for: with growing pauses, for about a quarter of a minute.
    Usual,
    /// For what can do without.
    Once,
}

/// A REST server.
pub(crate) struct Rest {
    /// What messages call it: never with credentials.
    name: String,
    base: Url,
    /// For small questions, and for files and lists.
    quick: Client,
    bulk: Client,
    patience: Patience,
    stop: Stop,
    /// The program behind it, where it is one of ours.
    rclone: Option<Arc<Rclone>>,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What is at a path of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// A folder with so many files of the repository's.
    Files(usize),
    /// 404: there is no such folder.
    Missing,
    /// 404 with a page for humans: what answers is a web server of another kind.
    Foreign,
}

impl Rest {
    /// Reaches for a server. Nothing is asked yet.
    ///
    /// # Errors
    /// The address is none, or the certificates cannot be read.
    pub(crate) fn new(
        name: String,
        url: &str,
        access: &Access,
        patience: Patience,
        stop: &Stop,
    ) -> Result<Self, Error> {
        let base = address(&name, url, access)?;
        let client = |timeout: Duration| -> Result<Client, Error> {
            let mut builder = Client::builder()
                .user_agent(concat!("rustic-hapi/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                .timeout(timeout)
                // Else it is 30 s.
                .tcp_user_timeout(timeout.min(UNACKNOWLEDGED))
                .tcp_keepalive(Duration::from_secs(30))
                .redirect(Policy::none())
                .no_proxy();
            if base.scheme() == "https" {
                builder = builder.tls_certs_merge(authorities(access)?);
            }
            builder.build().map_err(|error| Error::Destination {
                location: name.clone(),
                fact: format!("cannot be reached: {}", causes(&error)),
                hint: None,
            })
        };
        Ok(Self {
            quick: client(ANSWER)?,
            bulk: client(TRANSFER)?,
            name,
            base,
            patience,
            stop: stop.clone(),
            rclone: None,
        })
    }

    /// The same server for what goes on beside the work: what moves there is no sign of life.
    pub(crate) fn beside(&self) -> Self {
        Self {
            name: self.name.clone(),
            base: self.base.clone(),
            quick: self.quick.clone(),
            bulk: self.bulk.clone(),
            patience: self.patience,
            stop: self.stop.beside(),
            rclone: self.rclone.clone(),
        }
    }

    /// The server that a program of ours is, which lives as long as this does.
    pub(crate) fn of_rclone(
        name: String,
        rclone: Rclone,
        patience: Patience,
        stop: &Stop,
    ) -> Result<Self, Error> {
        let access = Access {
            rest_username: Some(rclone.user().to_owned()),
            rest_password: Some(rclone.password().clone()),
            ..Access::default()
        };
        let mut rest = Self::new(name, rclone.url(), &access, patience, stop)?;
        rest.rclone = Some(Arc::new(rclone));
        Ok(rest)
    }

    /// Whether a 404 may be anything that goes wrong behind it.
    pub(crate) fn is_through_rclone(&self) -> bool {
        self.rclone.is_some()
    }

    /// Whether the repository's config is there.
    pub(crate) fn has_config(&self) -> Result<bool, Failure> {
        self.persist(|| {
            let asked = self.send(&self.quick, Method::HEAD, "config", |r| r);
            Ok(found(asked)?.is_some())
        })
    }

    /// Lists a folder, without taking the lack of one for an empty one.
    pub(crate) fn look(&self, folder: &str) -> Result<Listed, Failure> {
        let path = format!("{folder}/");
        let answer = self.persist(|| {
            let asked = self.send(&self.bulk, Method::GET, &path, accept_v2);
            match asked {
                Err(failure) if failure.status() == Some(StatusCode::NOT_FOUND) => Ok(Err(failure)),
                Err(failure) => Err(failure),
                Ok(response) => self.body(response, &path).map(Ok),
            }
        })?;
        match answer {
            Ok(body) => Ok(Listed::Files(self.entries(&body, &path)?.len())),
            // rclone says 404 when the place behind it cannot be listed, and an empty list when there
            // is nothing: the first is a failure.
            Err(mut failure) if failure.server_is("rclone") => {
                if let Some(said) = self.rclone.as_ref().and_then(|rclone| rclone.explain()) {
                    failure.said = Some(said);
                }
                Err(failure)
            }
            Err(failure) if failure.is_page() => Ok(Listed::Foreign),
            Err(_) => Ok(Listed::Missing),
        }
    }

    /// What is at the place itself, where a program of ours can tell: restic's protocol has no question
    /// for it.
    pub(crate) fn place(&self) -> Option<Place> {
        self.rclone.as_ref().map(|rclone| rclone.place())
    }

    /// That the place cannot be looked at, in the words of what is behind the server.
    pub(crate) fn unlisted(&self, said: Option<String>) -> Failure {
        let mut failure = self.failure(What::Nonsense, "a look at the place".to_owned());
        failure.said = said.or(failure.said);
        failure
    }

    /// The files of a folder with their sizes.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, Failure> {
        let path = format!("{folder}/");
        let body = self.persist(|| {
            let response = self.send(&self.bulk, Method::GET, &path, accept_v2)?;
            self.body(response, &path)
        })?;
        self.entries(&body, &path)
    }

    /// A file, whole; `None` where there is none.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.persist(
            || match found(self.send(&self.bulk, Method::GET, path, |r| r))? {
                Some(response) => self.body(response, path).map(Some),
                None => Ok(None),
            },
        )
    }

    /// Writes a file whose name is the SHA-256 of its content (or `config`).
    pub(crate) fn write(&self, path: &str, content: &BytesList) -> Result<(), Failure> {
        let mut attempt = 0;
        self.persist(|| {
            attempt += 1;
            let sent = self.send(&self.bulk, Method::POST, path, |request| {
                let moving = Moving {
                    content: content.clone().reader(),
                    stop: self.stop.clone(),
                };
                request
                    .header("Content-Type", "application/octet-stream")
                    .body(Body::sized(moving, content.size() as u64))
            });
            match sent {
                Ok(_) => Ok(()),
                // A server that never overwrites says so when the answer to the first attempt was lost.
                Err(failure) if attempt > 1 && failure.status() == Some(StatusCode::FORBIDDEN) => {
                    match self.is_there(path, content) {
                        true => Ok(()),
                        false => Err(failure),
                    }
                }
                Err(failure) => Err(failure),
            }
        })
    }

    /// Removes a file; that it is gone already is what was wanted.
    pub(crate) fn remove(&self, path: &str) -> Result<(), Failure> {
        self.persist(|| found(self.send(&self.quick, Method::DELETE, path, |r| r)).map(|_| ()))
    }

    fn is_there(&self, path: &str, content: &BytesList) -> bool {
        let mut wanted = Vec::new();
        if content.clone().reader().read_to_end(&mut wanted).is_err() {
            return false;
        }
        let stored = self
            .send(&self.bulk, Method::GET, path, |r| r)
            .and_then(|response| self.body(response, path));
        stored.is_ok_and(|stored| Sha256::digest(&stored) == Sha256::digest(&wanted))
    }

    fn entries(&self, body: &[u8], path: &str) -> Result<Vec<(String, u64)>, Failure> {
        #[derive(serde::Deserialize)]
        struct Entry {
            name: String,
            size: u64,
        }
        let entries: Option<Vec<Entry>> = serde_json::from_slice(body).map_err(|_| {
            self.failure(
                What::Nonsense,
                format!("a list of `{path}` that is no list"),
            )
        })?;
        Ok(entries
            .unwrap_or_default()
            .into_iter()
            .map(|entry| (entry.name, entry.size))
            .collect())
    }

    /// Asks once.
    fn send(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let doing = || format!("{method} {path}");
        let url = self
            .base
            .join(path)
            .map_err(|error| self.failure(What::Nonsense, format!("{path}: {error}")))?;
        let response = with(client.request(method.clone(), url))
            .send()
            .map_err(|error| self.failure(What::of(&error), doing()))?;
        self.stop.progressed();
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let header = |name| {
            let value = response.headers().get(name);
            value.and_then(|v| v.to_str().ok()).unwrap_or("").to_owned()
        };
        let (server, kind) = (header("server"), header("content-type"));
        Err(self.failure(
            What::Status {
                status,
                server,
                page: kind.contains("html"),
            },
            doing(),
        ))
    }

    fn body(&self, mut response: Response, path: &str) -> Result<Vec<u8>, Failure> {
        let broken = |error: &dyn fmt::Display| {
            self.failure(
                What::Broken(error.to_string()),
                format!("the answer to GET {path}"),
            )
        };
        let length = response.content_length();
        let mut body = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            match response.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => {
                    self.stop.progressed();
                    body.extend_from_slice(&chunk[..n]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(&error)),
            }
        }
        match length {
            Some(length) if length != body.len() as u64 => Err(broken(&format_args!(
                "{} of {length} bytes came",
                body.len()
            ))),
            _ => Ok(body),
        }
    }

    /// Tries until it works, is final, or patience ends.
    fn persist<T>(&self, mut ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut pause = PAUSE;
        let mut first_failed: Option<Instant> = None;
        let mut answered: Option<Failure> = None;
        let mut attempts = 0;
        loop {
            let begun = Instant::now();
            let failure = match ask() {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let since = first_failed.get_or_insert(begun).elapsed();
            // One that takes connections and never answers has used up two attempts' time.
            attempts += if failure.is_silence() { 3 } else { 1 };
            let (most, long) = ATTEMPTS;
            let enough = attempts >= most || (attempts >= 3 && since >= long);
            if self.patience == Patience::Once || !failure.is_passing() || enough {
                // A server that gives up on an upload (its disk is full, say) closes the connection,
                // and its answer is often lost with what was still on its way.
                return Err(match failure.status() {
                    None => answered.unwrap_or(failure),
                    Some(_) => failure,
                });
            }
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if self.stop.is_set() {
                    return Err(failure);
                }
                thread::sleep(Duration::from_millis(50));
            }
            if failure.status().is_some() {
                answered = Some(failure);
            }
            pause *= 2;
        }
    }

    fn failure(&self, what: What, doing: String) -> Failure {
        let said = match &self.rclone {
            Some(rclone) => rclone.last_error(),
            None => None,
        };
        Failure {
            name: self.name.clone(),
            doing,
            what,
            said,
        }
    }
}

/// A failure to get something from a server.
#[derive(Debug)]
pub(crate) struct Failure {
    name: String,
    doing: String,
    what: What,
    /// What the program behind the server said last.
    said: Option<String>,
}

#[derive(Debug)]
enum What {
    Status {
        status: StatusCode,
        server: String,
        page: bool,
    },
    /// No connection.
    Unreachable(String),
    /// A connection that is not to be trusted.
    Tls(String),
    /// A connection, and no answer.
    Silence,
    /// An answer that broke off.
    Broken(String),
    /// An answer that makes no sense.
    Nonsense,
}

impl What {
    fn of(error: &reqwest::Error) -> Self {
        let causes = causes(error);
        let lower = causes.to_lowercase();
        // What a client says of certificates is final, and is a failure to connect all the same.
        if error.is_connect()
            && [
                "certificate",
                "tls",
                "handshake",
                "unknownissuer",
                "corrupt message",
            ]
            .iter()
            .any(|word| lower.contains(word))
        {
            return Self::Tls(causes);
        }
        if error.is_connect() {
            return Self::Unreachable(causes);
        }
        if error.is_timeout() {
            return Self::Silence;
        }
        Self::Broken(causes)
    }
}

impl Failure {
    fn status(&self) -> Option<StatusCode> {
        match &self.what {
            What::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether it is a 404 of a server that means it.
    pub(crate) fn is_missing(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND) && !self.server_is("rclone")
    }

    fn server_is(&self, name: &str) -> bool {
        matches!(&self.what, What::Status { server, .. } if server.starts_with(name))
    }

    fn is_page(&self) -> bool {
        matches!(&self.what, What::Status { page, .. } if *page)
    }

    fn is_silence(&self) -> bool {
        matches!(self.what, What::Silence)
    }

    /// Whether it may well work in a moment.
    fn is_passing(&self) -> bool {
        match &self.what {
            What::Status { status, .. } => {
                matches!(status.as_u16(), 408 | 425 | 429)
                    || (status.is_server_error() && !matches!(status.as_u16(), 501 | 505 | 507))
            }
            What::Unreachable(_) | What::Silence | What::Broken(_) => true,
            What::Tls(_) | What::Nonsense => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, doing) = (&self.name, &self.doing);
        match &self.what {
            What::Status { status, .. } => match self.said {
                // What rclone makes of the place's own answer is a number of its choice.
                Some(_) => write!(f, "`{name}` fails at {doing}"),
                None => write!(f, "`{name}` answers {status} to {doing}"),
            },
            What::Unreachable(why) => write!(f, "`{name}` cannot be reached: {why}"),
            What::Tls(why) => write!(f, "`{name}` is not to be trusted: {why}"),
            What::Silence => write!(
                f,
                "`{name}` takes connections and does not answer ({doing})"
            ),
            What::Broken(why) => write!(f, "the connection to `{name}` broke ({doing}): {why}"),
            What::Nonsense if self.said.is_some() => write!(f, "`{name}` fails at {doing}"),
            What::Nonsense => write!(f, "`{name}` answers nonsense: {doing}"),
        }?;
        match &self.said {
            Some(said) => write!(f, "; rclone says: {said}"),
            None => Ok(()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Engine {
            doing: "reaching the repository",
            reason: failure.to_string(),
        }
    }
}

impl From<Failure> for Box<RusticError> {
    fn from(failure: Failure) -> Self {
        RusticError::new(ErrorKind::Backend, "{failure}")
            .attach_context("failure", failure.to_string())
    }
}

/// What the remedy is, by the words of [`Failure`]'s text.
pub(crate) fn remedy(text: &str) -> Option<&'static str> {
    const CREDENTIALS: &str = "are user and password right? `RESTIC_REST_USERNAME` and `RESTIC_REST_PASSWORD` (in `environment-file` of `[repository]` for runs without anybody), or `user:password@` in the location";
    [
        (" answers 401 ", CREDENTIALS),
        (" answers 403 Forbidden to DELETE ", "the server refuses to delete: is it append-only? Then say `append-only = true` in `[repository]`, and apply retention on the server's side"),
        (" answers 403 ", "the server knows this user and refuses: may it read and write at this path?"),
        (" answers 400 ", "does the server speak TLS (`rest:https://…`)? And is it one for restic repositories?"),
        (" answers 410 ", "the server says that what was here is gone for good: look at the server"),
        (" answers 429 ", "the server asks for patience; the next run tries again"),
        (" answers 301 ", "is the path right, without `//`? Else the server has moved: write its new address into `location`"),
        ("corrupt message", "does the server speak TLS at all? Without it: `rest:http://…`"),
        ("Expired", "its certificate is no longer valid, or this machine's clock is wrong: look at both"),
        ("NotValidForName", "its certificate is for another name: write that name into `location`"),
        (" answers 404 ", "is the path of the location right? A repository's files do not go by themselves: look at the server"),
        (" answers 405 ", "is this a server for restic repositories (rest-server, `rclone serve restic`)?"),
        (" answers 413 ", "the server takes no files of this size: raise the limit of the proxy before it"),
        (" answers 507 ", "make room at the server: `rustic-hapi forget --prune` frees what retention removed"),
        (" answers 5", "look at the server's own log; is its disk full, or its storage away? The next run tries again"),
        (" answers 3", "the server has moved: write its new address into `location`"),
        (" is not to be trusted: ", "is it the right server? Name the certificate authority of a private one with `RESTIC_CACERT=FILE`"),
        (" does not answer (", "is the server hung, or its disk asleep? Look at it, and run this again"),
        ("Connection refused", "is the server running, and is the port right?"),
        ("failed to lookup address", "is the name right, and the network (VPN, tailnet) up?"),
        (" cannot be reached: ", "is the machine on, and the network (VPN, tailnet) up?"),
        (" broke (POST ", "the network or the server broke off, or it has no room left (its own log tells); the next run goes on where this one was"),
        ("the connection to `", "the network or the server broke off; the next run goes on where this one was"),
        (" answers nonsense: ", "is this a server for restic repositories (rest-server, `rclone serve restic`)?"),
    ]
    .into_iter()
    .find_map(|(fact, remedy)| text.contains(fact).then_some(remedy))
}

impl ReadBackend for Rest {
    fn location(&self) -> String {
        self.name.clone()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        if tpe == FileType::Config {
            let there = self.has_config()?;
            return Ok(there.then(|| (Id::default(), 0)).into_iter().collect());
        }
        Ok(self
            .list(tpe.dirname())?
            .into_iter()
            .filter_map(|(name, size)| {
                // Strangers among the files are nobody's business here.
                let id = name.parse::<Id>().ok()?;
                Some((id, u32::try_from(size).unwrap_or(u32::MAX)))
            })
            .collect())
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let path = path_of(tpe, id);
        let read = self.persist(|| {
            let response = self.send(&self.bulk, Method::GET, &path, |r| r)?;
            self.body(response, &path)
        })?;
        Ok(read.into())
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let path = path_of(tpe, id);
        let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(length));
        let read = self.persist(|| {
            let response = self.send(&self.bulk, Method::GET, &path, |request| {
                request.header("Range", format!("bytes={start}-{}", end - 1))
            })?;
            let partial = response.status() == StatusCode::PARTIAL_CONTENT;
            let mut body = Bytes::from(self.body(response, &path)?);
            // A server may give all of it instead.
            if !partial && body.len() as u64 >= end {
                let (start, end) = (offset as usize, (offset + length) as usize);
                body = body.slice(start..end);
            }
            match body.len() as u64 == u64::from(length) {
                true => Ok(body),
                false => Err(self.failure(
                    What::Broken(format!("{} of {length} bytes came", body.len())),
                    format!("GET {path}"),
                )),
            }
        })?;
        Ok(read)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        path_of(tpe, id)
    }
}

impl WriteBackend for Rest {
    fn create(&self) -> RusticResult<()> {
        self.persist(|| self.send(&self.quick, Method::POST, "?create=true", |r| r))?;
        Ok(())
    }

    fn write_bytes(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        Ok(self.write(&path_of(tpe, id), &content)?)
    }

    fn remove(&self, tpe: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        Ok(Self::remove(self, &path_of(tpe, id))?)
    }
}

fn path_of(tpe: FileType, id: &Id) -> String {
    match tpe {
        FileType::Config => "config".to_owned(),
        _ => format!("{}/{}", tpe.dirname(), id.to_hex().as_str()),
    }
}

fn accept_v2(request: RequestBuilder) -> RequestBuilder {
    request.header("Accept", "application/vnd.x.restic.rest.v2")
}

/// A 404 is no failure where it is an answer.
fn found(asked: Result<Response, Failure>) -> Result<Option<Response>, Failure> {
    match asked {
        Ok(response) => Ok(Some(response)),
        Err(failure) if failure.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Content on its way to a server: each piece that is taken is a sign of life.
struct Moving<R> {
    content: R,
    stop: Stop,
}

impl<R: Read> Read for Moving<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.progressed();
        self.content.read(buffer)
    }
}

/// The address of the repository, ending in `/`, with the credentials that the client sends.
fn address(name: &str, url: &str, access: &Access) -> Result<Url, Error> {
    let wrong = |fact: String| {
        Error::Destination {
        location: name.to_owned(),
        fact,
        hint: Some("write it as `rest:http://host:8000/path/`; `/`, `@` and `:` in a user or password are written as %2F, %40 and %3A".into()),
    }
    };
    let mut base = Url::parse(url).map_err(|error| wrong(format!("is no address: {error}")))?;
    if !["http", "https"].contains(&base.scheme()) || base.host().is_none() {
        return Err(wrong("is no address of a web server".into()));
    }
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    if let Some(user) = &access.rest_username
        && !base.username().is_empty()
        && base.username() != user
    {
        return Err(Error::Usage {
            fact: format!("`{name}` names another user than `RESTIC_REST_USERNAME`"),
            hint: Some("nothing was done, because either may be meant: leave one of them".into()),
        });
    }
    base.set_query(None);
    base.set_fragment(None);
    if base.username().is_empty() && base.password().is_none() {
        if let Some(user) = &access.rest_username {
            // Both can be set for any address that has a host.
            _ = base.set_username(user);
        }
        if let Some(password) = &access.rest_password {
            _ = base.set_password(Some(password));
        }
    }
    Ok(base)
}

/// The certificates of private authorities.
fn authorities(access: &Access) -> Result<Vec<Certificate>, Error> {
    let Some(path) = &access.cacert else {
        return Ok(Vec::new());
    };
    let wrong = |reason: String| Error::Usage {
        fact: format!("the certificates in `{}` {reason}", path.display()),
        hint: Some("`RESTIC_CACERT` names a file with certificates in PEM".into()),
    };
    let pem = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if certificates.is_empty() => Err(wrong("are none".into())),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(wrong("are none in PEM".into())),
    }
}

/// An error with its causes and without its address, which may hold a password.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            if !text.is_empty() {
                text += ": ";
            }
            text += &next;
        }
        cause = error.source();
    }
    if text.is_empty() {
        text = "no reason is given".to_owned();
    }
    text
}

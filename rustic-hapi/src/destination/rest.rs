//! A REST server keeps a repository's files and speaks restic's REST protocol
//! (<https://restic.readthedocs.io/en/stable/REST_backend.html>): rest-server, `rclone serve restic`.
//! One file, since it is one protocol.
//!
//! Nothing it says is taken for more than it says. "Not there" is a 404 and nothing else, what is
//! passing is tried again with growing pauses and what is final is not, and every byte that moves is a
//! sign of life. The engine's own client does neither: it takes a 401 or a 500 for "no repository",
//! waits ten minutes in silence for one answer, and has no place for restic's locks.
//!
//! More than 400 lines, since a question, its answer and when to ask again are one protocol.

mod backend;
mod failure;

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use hapi_sources::Stop;
use reqwest::blocking::{Body, Client, RequestBuilder, Response};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method, StatusCode, Url};
use rustic_core::BytesList;
use sha2::{Digest, Sha256};

use crate::destination::access::Access;
use crate::destination::http;
use crate::destination::patience::Patience;
use crate::destination::rclone::{Listing, Rclone};
use crate::error::Error;

pub(crate) use self::failure::Failure;

use self::failure::{What, causes};

/// How long a server has to take a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long it has for the answer to a small question.
const ANSWER: Duration = Duration::from_secs(20);

/// How long it has for a file or a list; whoever watches for progress ends it sooner.
const TRANSFER: Duration = Duration::from_secs(15 * 60);

/// How long what was sent may go without an acknowledgement, while a cable is out, say.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

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
            let mut builder = http::client()
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
    pub(crate) fn unwatched(&self) -> Self {
        Self {
            name: self.name.clone(),
            base: self.base.clone(),
            quick: self.quick.clone(),
            bulk: self.bulk.clone(),
            patience: self.patience.clone(),
            stop: self.stop.unwatched(),
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
    pub(crate) fn place(&self) -> Option<Listing> {
        self.rclone.as_ref().map(|rclone| rclone.place())
    }

    /// That the place cannot be looked at, in the words of what is behind the server.
    pub(crate) fn unlisted(&self, said: Option<String>) -> Failure {
        let mut failure = self.failure(What::Nonsense, "opening the place".to_owned());
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
            self.failure(What::Nonsense, format!("its list of `{path}` is not valid"))
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
                "received {} of {length} bytes",
                body.len()
            ))),
            _ => Ok(body),
        }
    }

    /// Tries until it works, is final, or patience ends.
    fn persist<T>(&self, ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        self.patience.persist(&self.stop, ask)
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
    let mut base =
        Url::parse(url).map_err(|error| wrong(format!("is not a valid address: {error}")))?;
    if !["http", "https"].contains(&base.scheme()) || base.host().is_none() {
        return Err(wrong("is not the address of a web server".into()));
    }
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    if let Some(user) = &access.rest_username
        && !base.username().is_empty()
        && base.username() != user
    {
        return Err(Error::usage(
            format!("`{name}` names another user than `RESTIC_REST_USERNAME`"),
            "nothing was done; remove one of them",
        ));
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

fn authorities(access: &Access) -> Result<Vec<Certificate>, Error> {
    let Some(path) = &access.cacert else {
        return Ok(Vec::new());
    };
    let wrong = |reason: String| {
        Error::usage(
            format!("the certificates in `{}` {reason}", path.display()),
            "`RESTIC_CACERT` names a file with certificates in PEM",
        )
    };
    let pem = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if certificates.is_empty() => Err(wrong("are none".into())),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(wrong("are none in PEM".into())),
    }
}

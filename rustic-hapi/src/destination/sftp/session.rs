//! A session asks a server for whole files and whole lists, over SFTP version 3
//! (<https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02>) with OpenSSH's extensions.
//!
//! Nothing waits for one answer before it asks the next question, where the questions do not depend on each
//! other: on a long way that is what takes the time. One file, since every question is one protocol's.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use hapi_sources::Stop;
use russh_sftp::client::Config;
use russh_sftp::client::RawSftpSession;
use russh_sftp::client::error::Error as Sftp;
use russh_sftp::client::rawsession::SftpResult;
use russh_sftp::extensions::{FSYNC, HardlinkExtension, STATVFS};
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::What;

const POSIX_RENAME: &str = "posix-rename@openssh.com";

/// What every server takes in one packet.
pub(super) const PIECE: usize = 32 << 10;

/// So many pieces of a file are under way at a time: 2 MiB, as much as OpenSSH's window holds.
const PIECES: usize = 64;

/// So many small questions at a time.
const QUESTIONS: usize = 64;

/// So many files are open at a time. OpenSSH's handles are numbers of four bytes, and the library takes them
/// for text: below 128 they are.
const HANDLES: usize = 96;

/// So many files are kept open to be read on.
const KEPT: usize = 8;

/// How long anything may take once the end was asked for: a lock is to be removed all the same.
pub(super) const HURRY: Duration = Duration::from_secs(5);

/// How long a server has for an answer, after the last one to anything.
const ANSWER: Duration = Duration::from_secs(20);

/// The same where its disk has to do something first.
const DISK: Duration = Duration::from_secs(120);

/// A session with a server.
pub(super) struct Session {
    raw: RawSftpSession,
    extensions: Vec<String>,
    handles: Arc<Semaphore>,
    /// Files of which parts are read stay open for the next part; the last one was used last.
    kept: Mutex<Vec<(String, Arc<Open>)>>,
    begun: Instant,
    /// When the last answer came, in milliseconds since it began.
    heard: AtomicU64,
}

/// What is in a folder.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) is_folder: bool,
    pub(super) size: u64,
    /// Seconds since 1970, by the server's clock.
    pub(super) modified: Option<u32>,
}

/// A file that is open there.
struct Open {
    handle: String,
    _permit: OwnedSemaphorePermit,
}

impl Session {
    pub(super) async fn begin<S>(pipes: S) -> Result<Self, Sftp>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        const YEAR: u64 = 365 * 24 * 60 * 60;
        let raw = RawSftpSession::new_with_config(
            pipes,
            Config {
                // Whoever asks looks at the time: it is the silence that counts.
                request_timeout_secs: YEAR,
                ..Config::default()
            },
        );
        let version = raw.init().await?;
        Ok(Self {
            raw,
            extensions: version.extensions.into_keys().collect(),
            handles: Arc::new(Semaphore::new(HANDLES)),
            kept: Mutex::default(),
            begun: Instant::now(),
            heard: AtomicU64::new(0),
        })
    }

    fn offers(&self, extension: &str) -> bool {
        self.extensions.iter().any(|name| name == extension)
    }

    /// Waits for an answer as long as there are any: each is a sign of life.
    async fn answer<T>(
        &self,
        stop: &Stop,
        patience: Duration,
        question: impl Future<Output = SftpResult<T>>,
    ) -> Result<T, What> {
        let mut question = pin!(question);
        let asked = self.begun.elapsed();
        loop {
            match tokio::time::timeout(Duration::from_secs(1), &mut question).await {
                Ok(answer) => {
                    if matches!(answer, Ok(_) | Err(Sftp::Status(_))) {
                        let now = self.begun.elapsed().as_millis();
                        self.heard
                            .store(u64::try_from(now).unwrap_or(0), Ordering::SeqCst);
                        stop.progressed();
                    }
                    return answer.map_err(What::from);
                }
                Err(_) => {
                    let heard = Duration::from_millis(self.heard.load(Ordering::SeqCst));
                    let patience = match stop.is_set() {
                        true => patience.min(HURRY),
                        false => patience,
                    };
                    if self.begun.elapsed() > asked.max(heard) + patience {
                        return Err(What::Silence);
                    }
                }
            }
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, What> {
        let permit = Arc::clone(&self.handles).acquire_owned().await;
        permit.map_err(|_| What::Broken("it is closed".to_owned()))
    }

    async fn open(&self, stop: &Stop, path: &str, flags: OpenFlags) -> Result<Open, What> {
        let permit = self.permit().await?;
        let mut attributes = FileAttributes::default();
        if flags.contains(OpenFlags::CREATE) {
            attributes.permissions = Some(0o600);
        }
        let opened = self.raw.open(path, flags, attributes);
        let handle = self.answer(stop, DISK, opened).await?.handle;
        Ok(Open {
            handle,
            _permit: permit,
        })
    }

    /// Closes; what a server says of a file only then counts.
    async fn close(&self, stop: &Stop, file: Open) -> Result<(), What> {
        let closed = self.raw.close(file.handle.as_str());
        self.answer(stop, DISK, closed).await.map(|_| ())
    }

    /// What is at a path.
    pub(super) async fn look(&self, stop: &Stop, path: &str) -> Result<FileAttributes, What> {
        let found = self.answer(stop, ANSWER, self.raw.stat(path)).await?;
        Ok(found.attrs)
    }

    /// A file.
    pub(super) async fn read(&self, stop: &Stop, path: &str) -> Result<Vec<u8>, What> {
        let opened = self.open(stop, path, OpenFlags::READ);
        let (file, found) = tokio::join!(opened, self.look(stop, path));
        let file = file?;
        let content = match found.map(|found| found.size) {
            Ok(Some(size)) => self.content(stop, &file, 0, size).await,
            Ok(None) => Err(What::Nonsense("a file without a size".into())),
            Err(what) => Err(what),
        };
        self.let_go(stop, file);
        content
    }

    /// A part of a file: where it begins, and how long it is.
    pub(super) async fn read_part(
        &self,
        stop: &Stop,
        path: &str,
        from: u64,
        length: u64,
    ) -> Result<Vec<u8>, What> {
        // Looked for and taken under one lock: others take and keep files meanwhile.
        let kept = {
            let mut kept = self.kept();
            let there = kept.iter().rposition(|(kept, _)| kept == path);
            there.map(|at| kept.remove(at).1)
        };
        let file = match kept {
            Some(file) => file,
            None => Arc::new(self.open(stop, path, OpenFlags::READ).await?),
        };
        self.kept().push((path.to_owned(), Arc::clone(&file)));
        let content = self.content(stop, &file, from, length).await;
        drop(file);
        let old = {
            let mut kept = self.kept();
            let unused = kept
                .iter()
                .position(|(_, file)| Arc::strong_count(file) == 1);
            let unused = unused.filter(|_| kept.len() > KEPT);
            unused.and_then(|at| Arc::into_inner(kept.remove(at).1))
        };
        if let Some(old) = old {
            self.let_go(stop, old);
        }
        content
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(String, Arc<Open>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what was read, and waits for no answer.
    fn let_go(&self, stop: &Stop, file: Open) {
        // It is sent when it is looked at for the first time.
        _ = pin!(self.close(stop, file)).now_or_never();
    }

    async fn content(
        &self,
        stop: &Stop,
        file: &Open,
        from: u64,
        length: u64,
    ) -> Result<Vec<u8>, What> {
        let pieces = (0..length).step_by(PIECE).map(|at| {
            let size = (length - at).min(PIECE as u64);
            self.piece(stop, file, from + at, size)
        });
        let mut pieces = stream::iter(pieces).buffered(PIECES);
        let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        while let Some(piece) = pieces.try_next().await? {
            let begins = content.len() as u64;
            content.extend_from_slice(&piece);
            let wanted = (length - begins).min(PIECE as u64);
            if (piece.len() as u64) < wanted {
                return Err(What::Short {
                    wanted: length,
                    came: content.len() as u64,
                });
            }
        }
        Ok(content)
    }

    /// A piece of a file, shorter only where the file ends.
    async fn piece(&self, stop: &Stop, file: &Open, from: u64, size: u64) -> Result<Vec<u8>, What> {
        let mut piece = Vec::new();
        // A server may give less at a time.
        while (piece.len() as u64) < size {
            let at = from + piece.len() as u64;
            let left = u32::try_from(size - piece.len() as u64).unwrap_or(PIECE as u32);
            let asked = self.raw.read(file.handle.as_str(), at, left);
            match self.answer(stop, DISK, asked).await {
                Ok(answer) if answer.data.is_empty() => break,
                Ok(answer) if piece.is_empty() => piece = answer.data,
                Ok(answer) => piece.extend(answer.data),
                Err(what) if what.is_end_of_list() => break,
                Err(what) => return Err(what),
            }
        }
        piece.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(piece)
    }

    /// Writes a file that is not there yet, down to the server's disk where that can be had. Gives what the
    /// server's clock says meanwhile.
    pub(super) async fn write(
        &self,
        stop: &Stop,
        path: &str,
        pieces: impl Iterator<Item = Vec<u8>>,
    ) -> Result<Option<u32>, What> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE;
        let file = self.open(stop, path, flags).await?;
        let filled = self.fill(stop, &file, pieces).await;
        match filled {
            Ok(modified) => {
                self.close(stop, file).await?;
                Ok(modified)
            }
            Err(what) => {
                if !what.ends_connection() {
                    _ = self.close(stop, file).await;
                }
                Err(what)
            }
        }
    }

    async fn fill(
        &self,
        stop: &Stop,
        file: &Open,
        pieces: impl Iterator<Item = Vec<u8>>,
    ) -> Result<Option<u32>, What> {
        let mut size = 0;
        let writes = pieces.map(|piece| {
            let at = size;
            size += piece.len() as u64;
            let written = self.raw.write(file.handle.as_str(), at, piece);
            async move { self.answer(stop, DISK, written).await.map(|_| ()) }
        });
        let writes = stream::iter(writes).buffer_unordered(PIECES);
        writes.try_collect::<()>().await?;
        let synced = async {
            if !self.offers(FSYNC) {
                return Ok(());
            }
            let synced = self.raw.fsync(file.handle.as_str());
            match self.answer(stop, DISK, synced).await {
                Err(what) if !what.is_unsupported() => Err(what),
                _ => Ok(()),
            }
        };
        let asked = self.raw.fstat(file.handle.as_str());
        let (synced, found) = tokio::join!(synced, self.answer(stop, DISK, asked));
        synced?;
        let found = found?.attrs;
        match found.size {
            Some(came) if came != size => Err(What::Short { wanted: size, came }),
            _ => Ok(found.mtime),
        }
    }

    /// Gives a file another name, in whose place it comes.
    pub(super) async fn rename(&self, stop: &Stop, from: &str, to: &str) -> Result<(), What> {
        if self.offers(POSIX_RENAME) {
            // It has the same two texts as a hard link.
            let names = HardlinkExtension {
                oldpath: from.to_owned(),
                newpath: to.to_owned(),
            };
            let names: Vec<u8> = names
                .try_into()
                .map_err(|_| What::Nonsense("two names".to_owned()))?;
            let asked = async {
                match self.raw.extended(POSIX_RENAME, names).await? {
                    Packet::Status(status) => match status.status_code {
                        russh_sftp::protocol::StatusCode::Ok => Ok(()),
                        _ => Err(Sftp::Status(status)),
                    },
                    _ => Err(Sftp::UnexpectedPacket),
                }
            };
            return self.answer(stop, DISK, asked).await;
        }
        let renamed = self.answer(stop, DISK, self.raw.rename(from, to)).await;
        let Err(what) = renamed else {
            return Ok(());
        };
        // The protocol's own refuses a name that is taken: by our own file, whose answer was lost, or by
        // what an upload left that broke off.
        let (Ok(taken), Ok(ours)) = tokio::join!(self.look(stop, to), self.look(stop, from)) else {
            return Err(what);
        };
        if taken.size.is_some() && taken.size == ours.size {
            return self.remove(stop, from).await;
        }
        self.remove(stop, to).await?;
        let again = self.raw.rename(from, to);
        self.answer(stop, DISK, again).await.map(|_| ())
    }

    /// What is in a folder.
    pub(super) async fn list(&self, stop: &Stop, path: &str) -> Result<Vec<Entry>, What> {
        let permit = self.permit().await?;
        let handle = self
            .answer(stop, DISK, self.raw.opendir(path))
            .await?
            .handle;
        let folder = Open {
            handle,
            _permit: permit,
        };
        let mut entries = Vec::new();
        // The end of a short list comes with it; a long one is asked for in more pieces at a time.
        let mut at_a_time = 2;
        let listed = 'all: loop {
            let asked = (0..at_a_time).map(|_| {
                let asked = self.raw.readdir(folder.handle.as_str());
                self.answer(stop, DISK, asked)
            });
            let mut answers = stream::iter(asked).buffered(at_a_time);
            let mut ended = false;
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(names) => entries.extend(names.files.into_iter().map(|file| Entry {
                        is_folder: file.attrs.is_dir(),
                        size: file.attrs.len(),
                        modified: file.attrs.mtime,
                        name: file.filename,
                    })),
                    Err(what) if what.is_end_of_list() => ended = true,
                    Err(what) => break 'all Err(what),
                }
            }
            if ended {
                break Ok(());
            }
            at_a_time = 8;
        };
        self.let_go(stop, folder);
        listed?;
        entries.retain(|entry| ![".", ".."].contains(&entry.name.as_str()));
        Ok(entries)
    }

    /// What is in these folders, which are listed side by side.
    pub(super) async fn list_all(
        &self,
        stop: &Stop,
        folders: Vec<String>,
    ) -> Result<Vec<(String, Vec<Entry>)>, What> {
        stream::iter(folders)
            .map(|folder| async move {
                let entries = self.list(stop, &folder).await?;
                Ok((folder, entries))
            })
            .buffer_unordered(QUESTIONS)
            .try_collect()
            .await
    }

    pub(super) async fn remove(&self, stop: &Stop, path: &str) -> Result<(), What> {
        let removed = self.raw.remove(path);
        self.answer(stop, DISK, removed).await.map(|_| ())
    }

    /// Makes folders, which may be there, side by side.
    pub(super) async fn make_folders(&self, stop: &Stop, paths: Vec<String>) -> Result<(), What> {
        stream::iter(paths)
            .map(|path| async move { self.make_folder(stop, &path).await })
            .buffer_unordered(QUESTIONS)
            .try_collect()
            .await
    }

    pub(super) async fn make_folder(&self, stop: &Stop, path: &str) -> Result<(), What> {
        let attributes = FileAttributes {
            permissions: Some(0o700),
            ..FileAttributes::default()
        };
        let made = self.raw.mkdir(path, attributes);
        match self.answer(stop, DISK, made).await {
            Ok(_) => Ok(()),
            // That it is there has no number of its own.
            Err(what) if !what.ends_connection() => match self.look(stop, path).await {
                Ok(found) if found.is_dir() => Ok(()),
                _ => Err(what),
            },
            Err(what) => Err(what),
        }
    }

    /// Bytes that are free to us there, and whether there is a place for one more file; where it tells.
    pub(super) async fn room(&self, stop: &Stop, folder: &str) -> Option<(u64, bool)> {
        if !self.offers(STATVFS) {
            return None;
        }
        let asked = self.raw.statvfs(folder);
        let disk = self.answer(stop, ANSWER, asked).await.ok()?;
        let free = disk.blocks_avail.saturating_mul(disk.fragment_size);
        Some((free, disk.inodes == 0 || disk.inodes_avail > 0))
    }
}

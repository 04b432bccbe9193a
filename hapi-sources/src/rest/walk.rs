//! A walk finds what lies in a folder and is in no source. It reads the beginning of files that may be databases, and
//! nothing else.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use globset::GlobMatcher;
use rustix::fs::OFlags;
use walkdir::{DirEntry, WalkDir};

use super::left_out::{LeftOut, Why};
use crate::error::CaptureError;
use crate::file::pinned::Pinned;
use crate::secret::named;
use crate::source::{Kind, Scope, Source};
use crate::sqlite::names::{SIDE_FILES, real, with_suffix};
use crate::stop::Stop;
use crate::tree::pattern::{Pattern, excluded, exclusions};

/// What a folder may have of files before no more of it is looked at.
const MOST_SEEN: usize = 10_000;

/// The first bytes of a database (<https://sqlite.org/fileformat2.html#magic_header_string>).
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";

/// One name in the folder, with what is uncovered of it.
pub(super) struct Name {
    pub(super) path: PathBuf,
    pub(super) is_folder: bool,
    pub(super) files: Vec<PathBuf>,
    pub(super) links: Vec<PathBuf>,
    pub(super) bytes: u64,
    pub(super) databases: Vec<PathBuf>,
    /// What cannot be taken by itself.
    pub(super) out_of_reach: Vec<LeftOut>,
}

impl Name {
    /// The whole of it, as left out.
    pub(super) fn left_out(&self, why: Why) -> LeftOut {
        LeftOut {
            path: self.path.clone(),
            is_folder: self.is_folder,
            why,
            databases: self.databases.clone(),
        }
    }

    /// Each database, as left out.
    pub(super) fn databases_left_out(&self) -> impl Iterator<Item = LeftOut> {
        self.databases.iter().map(|path| LeftOut {
            path: path.clone(),
            is_folder: false,
            why: Why::Database,
            databases: vec![path.clone()],
        })
    }
}

/// What lies in a folder and is in no source: one for each name in it, and for what is out of a folder's reach.
/// `exclude` are patterns, seen from the folder, of what does not count; nothing in `private` does.
///
/// # Errors
/// The folder cannot be listed; a pattern is none; the end was asked for.
pub fn uncovered(
    folder: &Path,
    sources: &[Source],
    exclude: &[String],
    private: &[PathBuf],
    stop: &Stop,
) -> Result<Vec<LeftOut>, CaptureError> {
    let source = Source {
        exclude: exclude.to_vec(),
        ..Source::new("", Kind::Secret, folder)
    };
    let mut left_out = Vec::new();
    for name in names(&source, sources, private, stop)? {
        match name.files.is_empty() && name.links.is_empty() {
            true => left_out.extend(name.databases_left_out()),
            false => left_out.push(name.left_out(Why::NoSource)),
        }
        left_out.extend(name.out_of_reach);
    }
    Ok(left_out)
}

/// The names in a source's folder of which something is uncovered, sorted.
pub(super) fn names(
    source: &Source,
    sources: &[Source],
    private: &[PathBuf],
    stop: &Stop,
) -> Result<Vec<Name>, CaptureError> {
    let folder = source.path.as_path();
    let device = Pinned::folder(folder)?.stat.dev();
    let read = |e| CaptureError::read(folder, e);
    let walk = Walk {
        folder,
        real: real(folder),
        device,
        exclude: exclusions(source)?,
        private,
        covered: Covered::by(sources, stop)?,
        stop,
    };
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(read)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(read)?;
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    let mut names = Vec::new();
    for path in paths {
        let name = walk.name(path)?;
        let has_something = !(name.files.is_empty()
            && name.links.is_empty()
            && name.databases.is_empty()
            && name.out_of_reach.is_empty());
        names.extend(has_something.then_some(name));
    }
    Ok(names)
}

struct Walk<'a> {
    folder: &'a Path,
    /// The same without links.
    real: PathBuf,
    device: u64,
    exclude: Vec<GlobMatcher>,
    private: &'a [PathBuf],
    covered: Covered,
    stop: &'a Stop,
}

impl Walk<'_> {
    fn name(&self, path: PathBuf) -> Result<Name, CaptureError> {
        let mut name = Name {
            is_folder: path.is_dir(),
            files: Vec::new(),
            links: Vec::new(),
            bytes: 0,
            databases: Vec::new(),
            out_of_reach: Vec::new(),
            path,
        };
        let mut other_file_systems = Vec::new();
        let enters = |entry: &DirEntry| {
            let counts = self.counts(entry.path());
            if counts
                && entry.file_type().is_dir()
                && entry.metadata().is_ok_and(|stat| stat.dev() != self.device)
            {
                other_file_systems.push(entry.path().to_owned());
                return false;
            }
            counts
        };
        let walk = WalkDir::new(&name.path)
            .follow_links(false)
            .follow_root_links(false)
            .sort_by_file_name();
        for item in walk.into_iter().filter_entry(enters) {
            self.stop.check()?;
            match item {
                Ok(entry) => self.add(&mut name, &entry),
                Err(error) => {
                    let path = error.path().unwrap_or(&name.path).to_owned();
                    let error = error.into_io_error();
                    let gone = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
                    if let Some(error) = error.filter(|e| !gone(e)) {
                        name.out_of_reach.push(LeftOut {
                            is_folder: path.is_dir(),
                            why: Why::Unreadable(error.to_string()),
                            databases: Vec::new(),
                            path,
                        });
                    }
                }
            }
            if name.files.len() > MOST_SEEN {
                break;
            }
        }
        let mounted = other_file_systems.into_iter().map(|path| LeftOut {
            path,
            is_folder: true,
            why: Why::OtherFileSystem,
            databases: Vec::new(),
        });
        name.out_of_reach.extend(mounted);
        Ok(name)
    }

    /// Whether it would be missed.
    fn counts(&self, path: &Path) -> bool {
        !excluded(&self.exclude, self.folder, path)
            && !self.private.iter().any(|p| path.starts_with(p))
            && !self.covered.has(path)
            && !self.is_covered_without_links(path)
    }

    /// The folder may be a link, and a source name what it leads to.
    fn is_covered_without_links(&self, path: &Path) -> bool {
        let inner = path.strip_prefix(self.folder);
        inner.is_ok_and(|inner| self.covered.has(&self.real.join(inner)))
    }

    fn add(&self, name: &mut Name, entry: &DirEntry) {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.is_symlink() {
            match self.leads_out(path) {
                true => name.out_of_reach.push(LeftOut {
                    path: path.to_owned(),
                    is_folder: path.is_dir(),
                    why: Why::LeadsOut,
                    databases: Vec::new(),
                }),
                false => name.links.push(path.to_owned()),
            }
            return;
        }
        let Ok(stat) = entry.metadata() else { return };
        if !kind.is_file() || self.covered.inodes.contains(&(stat.dev(), stat.ino())) {
            return;
        }
        if is_side_file_of_a_database(path) {
            return;
        }
        if is_database(path, stat.len()) {
            name.databases.push(path.to_owned());
            return;
        }
        // Its ciphertext would have the place of another source's file.
        let place = path.with_added_extension("age");
        if self.covered.has(&place) && place.exists() {
            name.out_of_reach.push(LeftOut {
                path: path.to_owned(),
                is_folder: false,
                why: Why::Unreadable(format!("`{}` has its place", place.display())),
                databases: Vec::new(),
            });
            return;
        }
        name.files.push(path.to_owned());
        name.bytes += stat.len();
    }

    /// Whether a link leads to something that is neither in the folder nor in a source.
    fn leads_out(&self, link: &Path) -> bool {
        let Ok(target) = link.canonicalize() else {
            return false;
        };
        let is_state = target.is_file() || target.is_dir();
        let known = target.starts_with(&self.real)
            || self.covered.has(&target)
            || self.private.iter().any(|p| target.starts_with(p));
        is_state && !known
    }
}

/// What the sources take, or leave out on purpose.
struct Covered {
    files: HashSet<PathBuf>,
    folders: Vec<PathBuf>,
    /// Databases under whatever name.
    inodes: HashSet<(u64, u64)>,
}

impl Covered {
    fn by(sources: &[Source], stop: &Stop) -> Result<Self, CaptureError> {
        let mut covered = Self {
            files: HashSet::new(),
            folders: Vec::new(),
            inodes: HashSet::new(),
        };
        for source in sources {
            let found = || match Pattern::parse(&source.path)?.find(&[], stop) {
                Ok(found) => Ok(found.paths.into_iter().chain(found.dangling).collect()),
                Err(CaptureError::Stopped) => Err(CaptureError::Stopped),
                // There is nothing of it.
                Err(_) => Ok::<Vec<_>, CaptureError>(Vec::new()),
            };
            let paths = match source.kind {
                Kind::Dir => {
                    covered
                        .folders
                        .extend([source.path.clone(), real(&source.path)]);
                    continue;
                }
                Kind::Secret if source.scope == Scope::Rest => continue,
                Kind::Secret => named::file_of(source).ok().flatten().into_iter().collect(),
                Kind::Sqlite | Kind::Glob if source.is_pattern() => found()?,
                _ => vec![source.path.clone()],
            };
            for path in paths {
                covered.add(&path, source.kind == Kind::Sqlite);
            }
        }
        Ok(covered)
    }

    fn add(&mut self, path: &Path, is_database: bool) {
        let suffixes: &[&str] = if is_database { &SIDE_FILES } else { &[] };
        for path in [path.to_owned(), real(path)] {
            for suffix in [""].iter().chain(suffixes) {
                let file = with_suffix(&path, suffix);
                if let Ok(stat) = fs::metadata(&file)
                    && is_database
                {
                    self.inodes.insert((stat.dev(), stat.ino()));
                }
                self.files.insert(file);
            }
        }
    }

    fn has(&self, path: &Path) -> bool {
        self.files.contains(path) || self.folders.iter().any(|folder| path.starts_with(folder))
    }
}

/// Whether SQLite would take it for a side file of a database that is there.
fn is_side_file_of_a_database(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    SIDE_FILES.iter().any(|suffix| {
        let base = bytes.strip_suffix(suffix.as_bytes());
        base.is_some_and(|base| Path::new(OsStr::from_bytes(base)).is_file())
    })
}

/// Whether it begins as a database does, or has a database's side files.
fn is_database(path: &Path, len: u64) -> bool {
    if SIDE_FILES.iter().any(|s| with_suffix(path, s).is_file()) {
        return true;
    }
    // A page has 512 bytes at least, and a database whole pages.
    if len < 512 || !len.is_multiple_of(512) {
        return false;
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    open.is_ok_and(|file| begins_as_one(&file))
}

fn begins_as_one(mut file: &File) -> bool {
    let mut first = [0; MAGIC.len()];
    file.read_exact(&mut first).is_ok() && first == MAGIC
}

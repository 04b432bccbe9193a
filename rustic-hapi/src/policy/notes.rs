//! What was odd about a capture, in words: they stand in the manifest and in reports.

use hapi_sources::Note;

/// A note in words.
pub(crate) fn describe_note(note: &Note) -> String {
    match note {
        Note::SpecialFile { path } => {
            format!(
                "`{}` is neither file, folder nor symbolic link; not taken",
                path.display()
            )
        }
        Note::LiveDatabase { path } => {
            format!(
                "`{}` belongs to a live database; not taken here",
                path.display()
            )
        }
        Note::SecretElsewhere { path, secret } => {
            format!(
                "`{}` is the secret `{secret}` under another name; not taken",
                path.display()
            )
        }
        Note::QuotesSecret { path, secret, .. } => {
            format!(
                "`{}` quotes a value of the secret `{secret}`, in clear",
                path.display()
            )
        }
        Note::SeveralNames { path, links } => {
            format!(
                "`{0}` has {links} hard links: if the hub uses another one, its last changes are not seen; `find / -xdev -samefile '{0}'` lists them",
                path.display()
            )
        }
        Note::DanglingLink { path } => {
            format!(
                "`{}` is a symbolic link that leads nowhere; not taken",
                path.display()
            )
        }
        Note::AlsoTaken { path, by } => {
            format!(
                "`{}` is in the snapshot as the source `{by}` took it",
                path.display()
            )
        }
        Note::KeptOut { path } => {
            format!("`{}` is this program's own; not taken", path.display())
        }
        Note::NoGit { path, reason } => {
            format!(
                "everything that matches `{}` was taken: {reason}",
                path.display()
            )
        }
        Note::NamesNothing { path, reason } => {
            format!("`{}` names no file: {reason}", path.display())
        }
        Note::SecretCache { path, reason } => {
            format!("`{}` was encrypted again: {reason}", path.display())
        }
    }
}

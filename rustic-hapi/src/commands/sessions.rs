//! The list of a hub's sessions: of one snapshot, of all of them, or of the live database.

use std::collections::{BTreeMap, HashMap};

use crate::commands::context::Context;
use crate::commands::conversations::each_database;
use crate::commands::conversations::origin::{Origin, Place};
pub use crate::conversation::search::Hits;
use crate::conversation::search::Needle;
pub use crate::conversation::session::Session;
use crate::error::Error;
use crate::profile::reading::Reading;

/// What is listed.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// From where.
    pub place: Place,
    /// Another host's snapshots than the profile's.
    pub host: Option<String>,
    /// Only sessions that have these words.
    pub search: Option<String>,
}

/// The sessions there are.
#[derive(Debug)]
pub struct Listing {
    /// The one with the latest message first.
    pub sessions: Vec<Listed>,
    /// What was looked for.
    pub search: Option<String>,
    /// From where.
    pub place: Place,
    /// Where they were read, in words.
    pub origins: Vec<String>,
    /// Messages that cannot be read and so were not searched.
    pub unreadable: u64,
    /// The first session that has one.
    pub unreadable_in: Option<String>,
    /// Snapshots, or live databases, that could not be read.
    pub unread: u64,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// One session of a list.
#[derive(Debug)]
pub struct Listed {
    /// The session, as it was there.
    pub session: Session,
    /// Where it was read: the newest snapshot that has it.
    pub origin: Origin,
    /// What the search found.
    pub hits: Option<Hits>,
}

/// Lists sessions.
///
/// # Errors
/// Those of the repository, the live database and the staging folder.
pub fn run(from: Reading<'_>, request: &Request, context: &Context<'_>) -> Result<Listing, Error> {
    let needle = request.search.as_deref().map(Needle::new);
    let mut sessions: Vec<Listed> = Vec::new();
    let mut origins: Vec<String> = Vec::new();
    // What was listed or looked through once is not looked at again, unless it was another then.
    let mut seen: HashMap<String, Seen> = HashMap::new();
    // Messages that cannot be read: in which session, how many, and what was known of it.
    let mut unreadable: BTreeMap<String, (u64, Seen)> = BTreeMap::new();
    let found = each_database(
        from,
        &request.place,
        request.host.as_deref(),
        context,
        &mut |database, origin| {
            origins.push(origin.in_words());
            for session in database.sessions()? {
                if context.stop.is_set() {
                    break;
                }
                let now = Seen::without_a_hit(&session);
                match seen.get(&session.id) {
                    Some(Seen::Listed) => continue,
                    Some(before) if *before == now => continue,
                    _ => {}
                }
                let searched = needle
                    .as_ref()
                    .map(|needle| needle.in_session(database, &session));
                let mut hits = None;
                if let Some(searched) = searched {
                    let unread = searched.unread;
                    let known = unreadable.get(&session.id).map(|(_, then)| *then == now);
                    match (unread, known) {
                        // An older snapshot can read the same.
                        (0, Some(true)) => _ = unreadable.remove(&session.id),
                        (1.., None) => {
                            unreadable.insert(session.id.clone(), (unread, now.clone()));
                        }
                        _ => {}
                    }
                    if searched.hits.is_none() {
                        // What could not be read in this one may be readable in an older one.
                        if unread == 0 {
                            seen.insert(session.id.clone(), now);
                        }
                        continue;
                    }
                    hits = searched.hits;
                }
                seen.insert(session.id.clone(), Seen::Listed);
                sessions.push(Listed {
                    session,
                    origin: origin.clone(),
                    hits,
                });
            }
            Ok(true)
        },
    )?;
    sessions.sort_by_key(|listed| {
        let session = &listed.session;
        std::cmp::Reverse(session.last.or(session.created_at))
    });
    origins.dedup();
    Ok(Listing {
        sessions,
        search: request.search.clone(),
        place: request.place.clone(),
        origins,
        unreadable: unreadable.values().map(|(count, _)| count).sum(),
        unreadable_in: unreadable.into_keys().next(),
        unread: found.unread,
        warnings: found.warnings,
    })
}

/// What is known of a session that a newer snapshot had.
#[derive(Clone, PartialEq, Eq)]
enum Seen {
    Listed,
    /// Without a hit, when it had this name and folder, and so many messages, the last of this time.
    Searched(String, String, u64, Option<i64>),
}

impl Seen {
    fn without_a_hit(session: &Session) -> Self {
        let (title, project) = (session.title().to_owned(), session.project().to_owned());
        Self::Searched(title, project, session.messages, session.last)
    }
}

//! A subject is a database in which things are changed: bytes, cells, leaves, its schema, or rows without an index.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, params};
use rustic_hapi::synthetic::{Hub, Shape};

use super::plans::{Plan, ROWS};
use crate::dice::Dice;

/// A database with what may be changed in it.
pub struct Subject {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// As it was some transactions before.
    older: Vec<u8>,
    page_size: usize,
    /// Changes of rows, for when an index does not take part.
    pub changes: &'static [&'static str],
    /// Changes of the schema's texts.
    pub rewrites: &'static [(&'static str, &'static str)],
}

impl Subject {
    pub fn make(plan: &Plan, dir: &Path) -> Self {
        let path = dir.join("made.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(plan.first).unwrap();
        db.execute_batch(ROWS).unwrap();
        db.execute_batch(plan.sql).unwrap();
        let older = fs::read(&path).unwrap();
        for change in plan.changes {
            // Some are refused by a constraint.
            _ = db.execute_batch(change);
        }
        drop(db);
        Self::of(plan.name, &path, older, plan.changes, plan.rewrites)
    }

    /// The fork's schema, with a few messages.
    pub fn fork(dir: &Path) -> Self {
        let path = dir.join("made.db");
        let mut hub = Hub::create(&path, Shape::Search, 3).unwrap();
        let checkpoint = || {
            let db = Connection::open(&path).unwrap();
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .unwrap();
        };
        hub.add_messages(6, 6).unwrap();
        checkpoint();
        let older = fs::read(&path).unwrap();
        hub.add_messages(2, 2).unwrap();
        drop(hub);
        let db = Connection::open(&path).unwrap();
        db.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
            .unwrap();
        drop(db);
        let changes = &[
            "DELETE FROM message_content_search_short WHERE search_rowid = 2 AND gram < 'b'",
            "UPDATE messages SET invoked_at = 5 WHERE seq = 1",
            "UPDATE messages SET local_id = 'x' WHERE local_id IS NULL AND seq = 1",
        ];
        Self::of("the fork", &path, older, changes, &[("seq DESC", "seq")])
    }

    fn of(
        name: &'static str,
        path: &Path,
        older: Vec<u8>,
        changes: &'static [&'static str],
        rewrites: &'static [(&'static str, &'static str)],
    ) -> Self {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        Self {
            name,
            page_size: usize::from(u16::from_be_bytes([bytes[16], bytes[17]])),
            bytes,
            older,
            changes,
            rewrites,
        }
    }

    /// Changes something, and says what; nothing where it came to nothing.
    pub fn mutated(&self, dice: &mut Dice) -> Option<(Vec<u8>, String)> {
        let mut bytes = self.bytes.clone();
        let what = match dice.below(7) {
            0 | 1 => self.byte(&mut bytes, dice),
            2..=4 => self.cells(&mut bytes, dice)?,
            5 => self.leaf_of_older(&mut bytes, dice)?,
            _ => self.swapped_leaves(&mut bytes, dice)?,
        };
        (bytes != self.bytes).then_some((bytes, what))
    }

    fn byte(&self, bytes: &mut [u8], dice: &mut Dice) -> String {
        // Magic and page size are other tests'.
        let at = below(dice, bytes.len() - 18) + 18;
        let was = bytes[at];
        bytes[at] = match dice.below(4) {
            0 => was ^ 1 << dice.below(8),
            1 => was ^ 0x20,
            2 => was.wrapping_add(1),
            _ => dice.roll() as u8,
        };
        format!("byte {at} was {was}, is {}", bytes[at])
    }

    /// Changes the cells of a leaf, or of two, and writes the leaves anew as a sound page has them.
    fn cells(&self, bytes: &mut [u8], dice: &mut Dice) -> Option<String> {
        let page = self.leaf(bytes, dice, None)?;
        let kind = bytes[page.0];
        let mut cells = self.cells_of(bytes, page)?;
        let n = cells.len();
        let (a, b) = (below(dice, n), below(dice, n));
        let what = match dice.below(7) {
            0 => {
                cells.swap(a, b);
                format!("cells {a} and {b} swapped")
            }
            1 => {
                cells.remove(a);
                format!("cell {a} removed")
            }
            2 => {
                cells.insert(b, cells[a].clone());
                format!("cell {a} added again before {b}")
            }
            3 => {
                cells[a] = cells[b].clone();
                format!("cell {a} is {b}")
            }
            4 => {
                let cell = cells.remove(a);
                cells.insert(b.min(n - 1), cell);
                format!("cell {a} moved to {b}")
            }
            5 => {
                let at = below(dice, cells[a].len());
                cells[a][at] = cells[a][at].wrapping_add(1 << dice.below(8));
                format!("byte {at} of cell {a}")
            }
            _ => {
                let other = self.leaf(bytes, dice, Some(kind))?;
                if other == page {
                    return None;
                }
                let mut theirs = self.cells_of(bytes, other)?;
                let c = below(dice, theirs.len());
                std::mem::swap(&mut cells[a], &mut theirs[c]);
                self.write(bytes, other, &theirs)?;
                format!("cell {a} swapped with {c} of {other:?}")
            }
        };
        self.write(bytes, page, &cells)?;
        Some(format!("leaf {page:?} of kind {kind}: {what}"))
    }

    fn leaf_of_older(&self, bytes: &mut [u8], dice: &mut Dice) -> Option<String> {
        let (header, start) = self.leaf(bytes, dice, None)?;
        let older = self.older.get(start..start + self.page_size)?;
        if header != start || older[0] != bytes[header] {
            return None;
        }
        bytes[start..start + self.page_size].copy_from_slice(older);
        Some(format!("leaf at {start} is as it was before"))
    }

    fn swapped_leaves(&self, bytes: &mut [u8], dice: &mut Dice) -> Option<String> {
        let a = self.leaf(bytes, dice, None)?;
        let b = self.leaf(bytes, dice, Some(bytes[a.0]))?;
        if a.0 != a.1 || b.0 != b.1 {
            return None;
        }
        for i in 0..self.page_size {
            bytes.swap(a.1 + i, b.1 + i);
        }
        Some(format!("leaves {a:?} and {b:?} swapped"))
    }

    /// Another text in the schema: the trees stay, and what they should be is another.
    pub fn rewritten(&self, (from, to): (&str, &str), path: &Path) -> Option<(Vec<u8>, String)> {
        let mut bytes = self.bytes.clone();
        edit(path, &mut bytes, |db| {
            let sql = "UPDATE sqlite_schema SET sql = replace(sql, ?1, ?2)";
            db.execute(sql, params![from, to]).map(|_| ())
        })?;
        (bytes != self.bytes).then(|| (bytes, format!("`{from}` is `{to}`")))
    }

    /// Rows change while an index is not in the schema: entries are missing, left over, or another's. All changes,
    /// without each of the indexes that have a text.
    pub fn without_indexes(&self, path: &Path) -> Vec<(Vec<u8>, String)> {
        type Row = (i64, String, String, i64, String);
        let mut rows: Vec<Row> = Vec::new();
        edit(path, &mut self.bytes.clone(), |db| {
            let sql = "SELECT rowid, name, tbl_name, rootpage, sql FROM sqlite_schema
                       WHERE type = 'index' AND sql IS NOT NULL";
            rows = db
                .prepare(sql)?
                .query_map([], |r| {
                    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
                })?
                .collect::<Result<_, _>>()?;
            Ok(())
        });
        let mut all = Vec::new();
        for (rowid, name, table, root, sql) in rows {
            for change in self.changes {
                let mut bytes = self.bytes.clone();
                let done = edit(path, &mut bytes, |db| {
                    db.execute("DELETE FROM sqlite_schema WHERE rowid = ?1", [rowid])
                        .map(|_| ())
                })
                .and_then(|()| {
                    edit(path, &mut bytes, |db| {
                        _ = db.execute_batch(change);
                        Ok(())
                    })
                })
                .and_then(|()| {
                    let insert =
                        "INSERT INTO sqlite_schema (rowid, type, name, tbl_name, rootpage, sql)
                                  VALUES (?1, 'index', ?2, ?3, ?4, ?5)";
                    edit(path, &mut bytes, |db| {
                        db.execute(insert, params![rowid, name, table, root, sql])
                            .map(|_| ())
                    })
                });
                if done.is_some() && bytes != self.bytes {
                    all.push((bytes, format!("`{change}` without {name}")));
                }
            }
        }
        all
    }

    /// A leaf: where its header is, and where the page begins. Those of indexes come more often.
    fn leaf(&self, bytes: &[u8], dice: &mut Dice, kind: Option<u8>) -> Option<(usize, usize)> {
        let pages = bytes.len() / self.page_size;
        for _ in 0..200 {
            let start = below(dice, pages) * self.page_size;
            let header = if start == 0 { 100 } else { start };
            let found = bytes[header];
            let wanted = match kind {
                Some(kind) => found == kind,
                None => found == 10 || found == 13 && dice.below(4) == 0,
            };
            if wanted
                && be16(bytes, header + 3) > 0
                && self.cells_of(bytes, (header, start)).is_some()
            {
                return Some((header, start));
            }
        }
        None
    }

    /// The bytes of each cell; none where the page is not what it seems to be.
    fn cells_of(&self, bytes: &[u8], (header, start): (usize, usize)) -> Option<Vec<Vec<u8>>> {
        let page = bytes.get(start..start + self.page_size)?;
        (0..be16(bytes, header + 3))
            .map(|i| {
                let at = be16(page, header - start + 8 + 2 * i);
                let cell = page.get(at..)?;
                let (len, mut taken) = varint(cell)?;
                if bytes[header] == 13 {
                    taken += varint(&cell[taken..])?.1;
                }
                let local = local(len, self.page_size, bytes[header] == 13);
                let end = taken + local + if local < len { 4 } else { 0 };
                Some(cell.get(..end.max(4))?.to_vec())
            })
            .collect()
    }

    fn write(
        &self,
        bytes: &mut [u8],
        (header, start): (usize, usize),
        cells: &[Vec<u8>],
    ) -> Option<()> {
        let page = &mut bytes[start..start + self.page_size];
        let header = header - start;
        let all: usize = cells.iter().map(Vec::len).sum();
        let pointers = header + 8;
        if pointers + 2 * cells.len() + all > page.len() {
            return None;
        }
        let mut at = page.len();
        for (i, cell) in cells.iter().enumerate() {
            at -= cell.len();
            page[at..at + cell.len()].copy_from_slice(cell);
            page[pointers + 2 * i..][..2]
                .copy_from_slice(&u16::try_from(at).unwrap().to_be_bytes());
        }
        page[header + 1..header + 3].fill(0);
        let n = u16::try_from(cells.len()).unwrap();
        page[header + 3..header + 5].copy_from_slice(&n.to_be_bytes());
        let at = u16::try_from(at).unwrap();
        page[header + 5..header + 7].copy_from_slice(&at.to_be_bytes());
        page[header + 7] = 0;
        Some(())
    }
}

fn below(dice: &mut Dice, n: usize) -> usize {
    usize::try_from(dice.below(n as u64)).unwrap()
}

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(9).enumerate() {
        value = value << 7 | usize::from(byte & 0x7f);
        if *byte < 0x80 {
            return Some((value, i + 1));
        }
    }
    None
}

fn local(len: usize, page_size: usize, of_rows: bool) -> usize {
    let most = if of_rows {
        page_size - 35
    } else {
        (page_size - 12) * 64 / 255 - 23
    };
    let least = (page_size - 12) * 32 / 255 - 23;
    if len <= most {
        return len;
    }
    let local = least + (len - least) % (page_size - 4);
    if local <= most { local } else { least }
}

/// Lets SQL change a database in which everything may be changed.
fn edit(
    path: &Path,
    bytes: &mut Vec<u8>,
    change: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Option<()> {
    fs::write(path, &bytes).unwrap();
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA writable_schema = ON",
    )
    .ok()?;
    change(&db).ok()?;
    drop(db);
    *bytes = fs::read(path).unwrap();
    Some(())
}

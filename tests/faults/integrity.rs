//! The full check finds what SQLite's `integrity_check` finds, and nothing else: both look at databases of many
//! shapes, in each of which something was changed. Apart from that are FTS5's comparison of its index with its text, which
//! is left out on purpose, and surplus entries of partial indexes, which SQLite does not see.
//!
//! The short form is some hundred changes; `just faults 200` makes 20,000.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hapi_sources::{Integrity, IntegrityCheck, Stop, examine};
use rusqlite::{Connection, ErrorCode, params};
use rustic_hapi::synthetic::{Hub, Shape};

use crate::dice::{Dice, rounds};

/// A database with what may be changed in it.
struct Subject {
    name: &'static str,
    bytes: Vec<u8>,
    /// As it was some transactions before.
    older: Vec<u8>,
    page_size: usize,
    /// Changes of rows, for when an index does not take part.
    changes: &'static [&'static str],
    /// Changes of the schema's texts.
    rewrites: &'static [(&'static str, &'static str)],
}

/// Rows of all types, by number.
const ROWS: &str = "
    CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)
        SELECT i, (i * 7919) % 1009 AS h,
            CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN i WHEN 2 THEN i * 0.37 WHEN 3 THEN 'text ' || (i * 31 % 17)
                WHEN 4 THEN CAST('blob' || i AS BLOB) WHEN 5 THEN -i * 1000003 WHEN 6 THEN 1e300 / i
                WHEN 7 THEN 9007199254740993 + i ELSE i * 1.0 END AS any,
            substr('aBcDeFgHiJ', i % 7 + 1, i % 4) || substr('XxYyZz', i % 5 + 1, 2) || substr('  ', 1, i % 3) AS word
        FROM n;";

struct Plan {
    name: &'static str,
    /// Before there is anything in it.
    first: &'static str,
    sql: &'static str,
    changes: &'static [&'static str],
    rewrites: &'static [(&'static str, &'static str)],
}

const PLANS: &[Plan] = &[
    Plan {
        name: "rowid, all types",
        first: "PRAGMA page_size = 512",
        sql: "CREATE TABLE t (a, b TEXT COLLATE NOCASE, c REAL, d INTEGER, e NUMERIC);
            CREATE INDEX t_a ON t (a);
            CREATE INDEX t_ba ON t (b, a DESC);
            CREATE INDEX t_c ON t (c DESC);
            CREATE UNIQUE INDEX t_d ON t (d);
            CREATE INDEX t_bd ON t (b COLLATE RTRIM, d DESC);
            CREATE UNIQUE INDEX t_ae ON t (a, e) WHERE a IS NOT NULL AND e > 4;
            INSERT INTO t SELECT any, word, h * 1.0, h, i FROM n",
        changes: &[
            "UPDATE t SET a = 17 WHERE rowid % 40 = 3",
            "UPDATE t SET b = iif(upper(b) GLOB b, lower(b), upper(b)) WHERE rowid % 30 = 5",
            "UPDATE t SET c = c + 1 WHERE rowid = 9",
            "UPDATE t SET d = (SELECT d FROM t WHERE rowid = 7) WHERE rowid = 8",
            "DELETE FROM t WHERE rowid % 50 = 11",
            "INSERT INTO t VALUES (NULL, NULL, NULL, NULL, NULL)",
            "UPDATE t SET rowid = rowid + 1000 WHERE rowid = 20",
            "UPDATE t SET e = 1 WHERE rowid = 21; UPDATE t SET e = 99 WHERE rowid = 2",
        ],
        rewrites: &[
            ("a DESC", "a"),
            ("c DESC", "c"),
            ("(a)", "(a DESC)"),
            ("RTRIM", "NOCASE"),
            ("COLLATE NOCASE", "COLLATE RTRIM"),
            ("e > 4", "e > 40"),
            ("e > 40", "e > 4"),
            ("CREATE INDEX t_a ", "CREATE UNIQUE INDEX t_a "),
            ("CREATE INDEX t_ba", "CREATE UNIQUE INDEX t_ba"),
            ("t (b, a DESC)", "t (b DESC, a DESC)"),
            ("CREATE INDEX t_c", "CREATE UNIQUE INDEX t_c"),
            ("CREATE INDEX t_bd", "CREATE UNIQUE INDEX t_bd"),
            ("(d)", "(e)"),
            ("c REAL", "c INTEGER"),
        ],
    },
    Plan {
        name: "rowid, expressions",
        first: "PRAGMA page_size = 1024",
        sql: "CREATE TABLE t (id TEXT PRIMARY KEY, a, b TEXT, c REAL, d INTEGER);
            CREATE INDEX t_pos ON t (b, coalesce(a, d) DESC, d DESC);
            CREATE INDEX t_low ON t (lower(b) COLLATE RTRIM, 'x' || d);
            CREATE INDEX t_sum ON t (c * 0.1 + d) WHERE d % 3 <> 0;
            CREATE UNIQUE INDEX t_if ON t (b, d) WHERE typeof(a) = 'integer';
            CREATE INDEX t_abs ON t (abs(c), c);
            INSERT INTO t SELECT 'id' || h, any, word, h / 7.0, h FROM n",
        changes: &[
            "UPDATE t SET a = 17 WHERE rowid % 40 = 3",
            "UPDATE t SET c = c + 1e-9 WHERE rowid % 30 = 5",
            "UPDATE t SET d = d + 1 WHERE rowid % 30 = 7",
            "UPDATE t SET b = lower(b) WHERE rowid % 9 = 2",
            "UPDATE t SET id = 'new' WHERE rowid = 4",
            "DELETE FROM t WHERE rowid % 50 = 11",
            "INSERT INTO t VALUES (NULL, NULL, NULL, NULL, NULL)",
        ],
        rewrites: &[
            ("DESC, d DESC", ", d DESC"),
            ("coalesce(a, d)", "coalesce(d, a)"),
            ("b TEXT", "b TEXT COLLATE NOCASE"),
            ("lower(b)", "upper(b)"),
            ("COLLATE RTRIM", "COLLATE NOCASE"),
            ("'x' || d", "'y' || d"),
            ("0.1", "0.10000000000000002"),
            ("% 3", "% 4"),
            ("abs(c)", "c"),
            ("d % 3 <> 0", "d % 6 <> 0"),
            ("'integer'", "'real'"),
            ("'integer'", "'text'"),
            ("CREATE INDEX t_abs", "CREATE UNIQUE INDEX t_abs"),
            ("CREATE INDEX t_low", "CREATE UNIQUE INDEX t_low"),
            ("lower(b) COLLATE RTRIM", "lower(b) DESC"),
        ],
    },
    Plan {
        name: "WITHOUT ROWID",
        first: "PRAGMA page_size = 512",
        sql: "CREATE TABLE t (a TEXT COLLATE NOCASE, b, c REAL, d INTEGER, PRIMARY KEY (a, b DESC)) WITHOUT ROWID;
            CREATE INDEX t_d ON t (d);
            CREATE INDEX t_c ON t (c DESC, b);
            CREATE UNIQUE INDEX t_da ON t (d, a);
            CREATE INDEX t_part ON t (b) WHERE d > 300;
            CREATE INDEX t_expr ON t (a || d, c);
            CREATE TABLE s (gram TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (gram, at)) WITHOUT ROWID;
            CREATE INDEX s_at ON s (at);
            CREATE TABLE r (x TEXT COLLATE RTRIM PRIMARY KEY DESC, y UNIQUE) WITHOUT ROWID;
            INSERT OR IGNORE INTO t SELECT word, coalesce(any, 0), h * 0.5, h FROM n;
            INSERT OR IGNORE INTO s SELECT substr(word, 1, 2), h FROM n;
            INSERT OR IGNORE INTO r SELECT word || i, any FROM n",
        changes: &[
            "UPDATE t SET d = 5 WHERE d % 40 = 3",
            "UPDATE t SET a = iif(upper(a) GLOB a, lower(a), upper(a)) WHERE d % 30 = 5",
            "UPDATE s SET at = at + 1000 WHERE at % 30 = 5",
            "DELETE FROM s WHERE at % 60 = 5",
            "DELETE FROM t WHERE d % 60 = 5",
            "UPDATE t SET c = -c WHERE d % 50 = 1",
            "INSERT INTO s VALUES ('zz', 17)",
        ],
        rewrites: &[
            ("b DESC", "b"),
            ("NOCASE, b,", "BINARY, b,"),
            ("NOCASE", "RTRIM"),
            ("RTRIM PRIMARY KEY DESC", "RTRIM PRIMARY KEY"),
            ("RTRIM", "BINARY"),
            ("c DESC", "c"),
            ("CREATE INDEX t_d ", "CREATE UNIQUE INDEX t_d "),
            ("CREATE INDEX s_at", "CREATE UNIQUE INDEX s_at"),
            ("(gram, at)", "(at, gram)"),
            ("gram TEXT", "gram TEXT COLLATE NOCASE"),
            ("d > 300", "d > 310"),
            ("(d)", "(d DESC)"),
        ],
    },
    Plan {
        name: "keys and constraints",
        first: "PRAGMA page_size = 512; PRAGMA auto_vacuum = FULL",
        sql: "CREATE TABLE k (id INTEGER PRIMARY KEY, a TEXT NOT NULL UNIQUE COLLATE NOCASE, b, UNIQUE (b, id DESC));
            CREATE TABLE p (id TEXT PRIMARY KEY ON CONFLICT REPLACE, \"rowid\" INT, \"x y\" UNIQUE);
            CREATE TABLE st (a INTEGER NOT NULL, b TEXT, c REAL UNIQUE, d ANY, CHECK (a > 0)) STRICT;
            CREATE INDEX st_d ON st (d, c);
            CREATE INDEX st_q ON st ('b');
            CREATE TABLE q (a INTEGER PRIMARY KEY DESC, b);
            CREATE INDEX q_b ON q (b, a);
            INSERT INTO k SELECT h, word || i, any FROM n;
            INSERT INTO p SELECT 'k' || h, i, any || i FROM n;
            INSERT INTO st SELECT i, word, h * 0.25, any FROM n;
            INSERT INTO q SELECT h, word FROM n",
        changes: &[
            "UPDATE k SET b = 3 WHERE id % 40 = 3",
            "DELETE FROM k WHERE id % 40 = 5",
            "UPDATE st SET d = 17 WHERE a % 40 = 5",
            "UPDATE q SET a = a + 5000 WHERE a % 40 = 5",
        ],
        rewrites: &[
            ("COLLATE NOCASE", ""),
            ("id DESC", "id"),
            ("(d, c)", "(d, c DESC)"),
            ("b, UNIQUE", "b INTEGER, UNIQUE"),
            ("CREATE INDEX q_b", "CREATE UNIQUE INDEX q_b"),
        ],
    },
    Plan {
        name: "columns that came later, or are generated",
        first: "PRAGMA page_size = 1024",
        sql: "CREATE TABLE t (a, s TEXT AS (upper(b)) STORED, b TEXT, v INT AS (length(b) + 1));
            INSERT INTO t (a, b) SELECT any, word FROM n;
            ALTER TABLE t ADD COLUMN later INTEGER;
            ALTER TABLE t ADD COLUMN n TEXT NOT NULL DEFAULT 'none';
            CREATE INDEX t_later ON t (later, a);
            CREATE INDEX t_n ON t (n);
            CREATE INDEX t_s ON t (s);
            CREATE INDEX t_v ON t (v, b);
            INSERT INTO t (a, b, later, n) SELECT i, word, h, 'some' FROM n WHERE i < 40;
            CREATE TABLE u (a);
            INSERT INTO u SELECT any FROM n;
            ALTER TABLE u ADD COLUMN late INTEGER;
            CREATE INDEX u_late ON u (late, a);
            CREATE TABLE w (a PRIMARY KEY, b) WITHOUT ROWID;
            INSERT OR IGNORE INTO w SELECT coalesce(any, 0), i FROM n;
            ALTER TABLE w ADD COLUMN c;
            CREATE INDEX w_c ON w (c, b)",
        changes: &[
            "UPDATE t SET later = 17 WHERE rowid % 40 = 3",
            "UPDATE t SET n = 'other' WHERE rowid % 40 = 4",
            "UPDATE t SET b = 'b' WHERE rowid % 40 = 5",
            "UPDATE w SET c = 9 WHERE b % 40 = 5",
        ],
        rewrites: &[
            ("'none'", "'nobody'"),
            ("length(b) + 1", "length(b) + 2"),
            ("upper(b)", "lower(b)"),
            ("later INTEGER", "later INTEGER DEFAULT 7"),
            ("late INTEGER", "late INTEGER DEFAULT 7"),
            ("ADD COLUMN c", "ADD COLUMN c DEFAULT 7"),
            (", c)", ", c DEFAULT 7)"),
        ],
    },
    Plan {
        name: "long values",
        first: "PRAGMA page_size = 512",
        sql: "CREATE TABLE t (id TEXT PRIMARY KEY, body, n INT, tail TEXT);
            CREATE INDEX t_body ON t (body, n);
            CREATE INDEX t_tail ON t (tail) WHERE n > 50;
            CREATE TABLE w (k TEXT, body, n INT UNIQUE, PRIMARY KEY (k, n)) WITHOUT ROWID;
            INSERT INTO t SELECT 'id' || h, substr(replace(hex(zeroblob(700)), '00', word || h || '.'), 1, i * 97 % 1900), i,
                word FROM n WHERE i < 60;
            INSERT INTO w SELECT substr(replace(hex(zeroblob(99)), '00', word || h || '.'), 1, i * 97 % 700), any, i
                FROM n WHERE i < 60",
        changes: &[
            "UPDATE t SET tail = 'new' WHERE n % 20 = 3",
            "UPDATE t SET body = body || '.' WHERE n % 20 = 4",
            "DELETE FROM t WHERE n % 30 = 5",
        ],
        rewrites: &[("n > 50", "n > 51"), ("(body, n)", "(body, n DESC)")],
    },
    Plan {
        name: "FTS5 and its shadow tables",
        first: "PRAGMA page_size = 512",
        sql: "CREATE VIRTUAL TABLE f USING fts5 (text, id UNINDEXED, tokenize = 'trigram');
            INSERT INTO f SELECT word || ' and ' || word || h, i FROM n;
            INSERT INTO f SELECT word || ' or ' || h, i FROM n;
            CREATE VIRTUAL TABLE g USING fts5 (text, prefix = '2 3');
            INSERT INTO g SELECT word || ' ' || h || ' ' || i FROM n",
        changes: &[],
        rewrites: &[("PRIMARY KEY(segid, term)", "PRIMARY KEY(segid, term DESC)")],
    },
    Plan {
        name: "UTF-16",
        first: "PRAGMA page_size = 512; PRAGMA encoding = 'UTF-16le'",
        sql: "CREATE TABLE t (a, b TEXT COLLATE NOCASE, UNIQUE (b, a));
            CREATE TABLE w (a TEXT PRIMARY KEY, b UNIQUE) WITHOUT ROWID;
            INSERT OR IGNORE INTO t SELECT any, word FROM n;
            INSERT OR IGNORE INTO w SELECT word, h FROM n",
        changes: &[],
        rewrites: &[("NOCASE", "BINARY")],
    },
];

impl Subject {
    fn make(plan: &Plan, dir: &Path) -> Self {
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
    fn fork(dir: &Path) -> Self {
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
    fn mutated(&self, dice: &mut Dice) -> Option<(Vec<u8>, String)> {
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
    fn rewritten(&self, (from, to): (&str, &str), path: &Path) -> Option<(Vec<u8>, String)> {
        let mut bytes = self.bytes.clone();
        edit(path, &mut bytes, |db| {
            let sql = "UPDATE sqlite_schema SET sql = replace(sql, ?1, ?2)";
            db.execute(sql, params![from, to]).map(|_| ())
        })?;
        (bytes != self.bytes).then(|| (bytes, format!("`{from}` is `{to}`")))
    }

    /// Rows change while an index is not in the schema: entries are missing, left over, or another's. All changes,
    /// without each of the indexes that have a text.
    fn without_indexes(&self, path: &Path) -> Vec<(Vec<u8>, String)> {
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

/// What SQLite says: its findings, or that it cannot look.
fn sqlites(path: &Path, pragma: &str) -> Option<Vec<String>> {
    let db = Connection::open(path).unwrap();
    let mut findings = Vec::new();
    let mut run = || -> rusqlite::Result<()> {
        let mut statement = db.prepare(&format!("PRAGMA {pragma}(1000)"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            findings.push(String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned());
        }
        Ok(())
    };
    match run() {
        Ok(()) => {}
        Err(e)
            if matches!(
                e.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ) =>
        {
            findings.push(e.to_string());
        }
        Err(_) => return None,
    }
    let fts5s_own = [
        "malformed inverted index for FTS5",
        "unable to validate the inverted index for FTS5",
        "fts5: ",
    ];
    findings.retain(|f| f != "ok" && !fts5s_own.iter().any(|own| f.starts_with(own)));
    Some(findings)
}

#[derive(Default)]
struct Tally {
    changes: u64,
    found: u64,
    beyond_quick: u64,
    surplus: u64,
    unable: u64,
}

impl Tally {
    fn compare(&mut self, path: &Path, about: &str) {
        let integrity = examine(path, &[], &[], IntegrityCheck::Full, &Stop::default())
            .unwrap_or_else(|e| panic!("{about}: {e:?}"))
            .2
            .integrity;
        let Some(expected) = sqlites(path, "integrity_check") else {
            self.unable += 1;
            return;
        };
        self.changes += 1;
        match (&expected[..], &integrity) {
            ([], Integrity::Ok) => {}
            ([], Integrity::Damaged { findings })
                if findings
                    .iter()
                    .all(|f| f.starts_with("more entries than rows in index")) =>
            {
                self.surplus += 1;
            }
            ([_, ..], Integrity::Damaged { .. }) => {
                self.found += 1;
                let quick = sqlites(path, "quick_check");
                self.beyond_quick += u64::from(quick.is_some_and(|found| found.is_empty()));
            }
            _ => {
                let kept = std::env::temp_dir().join("integrity-differs.db");
                fs::copy(path, &kept).unwrap();
                let expected = expected.first();
                panic!(
                    "{about}: SQLite says {expected:?}, we say {integrity:?}; it is in {kept:?}"
                );
            }
        }
    }
}

#[test]
fn the_full_check_finds_what_sqlites_own_finds() {
    let mut dice = Dice::new("the_full_check_finds_what_sqlites_own_finds");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("subject.db");
    let plans = PLANS.iter().map(|plan| Subject::make(plan, dir.path()));
    let subjects: Vec<_> = plans.chain([Subject::fork(dir.path())]).collect();
    for subject in &subjects {
        fs::write(&path, &subject.bytes).unwrap();
        assert_eq!(
            sqlites(&path, "integrity_check").unwrap(),
            [""; 0],
            "{}",
            subject.name
        );
        Tally::default().compare(&path, subject.name);
    }
    let mut tallies = BTreeMap::<_, Tally>::new();
    for subject in &subjects {
        let rewrites = subject.rewrites.iter();
        let rewritten = rewrites.filter_map(|rewrite| subject.rewritten(*rewrite, &path));
        let rewritten: Vec<_> = rewritten.collect();
        for (bytes, what) in rewritten.into_iter().chain(subject.without_indexes(&path)) {
            fs::write(&path, bytes).unwrap();
            let about = format!("{}, {what}", subject.name);
            tallies
                .entry(subject.name)
                .or_default()
                .compare(&path, &about);
        }
    }
    let mut round = 0;
    while round < rounds(4) * 100 {
        let subject = dice.one_of(&subjects);
        let Some((bytes, what)) = subject.mutated(&mut dice) else {
            continue;
        };
        round += 1;
        fs::write(&path, bytes).unwrap();
        let about = format!("round {round}, {}, {what}", subject.name);
        tallies
            .entry(subject.name)
            .or_default()
            .compare(&path, &about);
    }
    for (name, tally) in tallies {
        println!(
            "{name}: {} changes, in {} SQLite found something, in {} of them only beyond quick_check; {} with surplus \
             entries; {} that SQLite cannot check",
            tally.changes, tally.found, tally.beyond_quick, tally.surplus, tally.unable
        );
    }
}

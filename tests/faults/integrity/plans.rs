//! Databases of many shapes, with what may be changed in their rows and their schemas.

/// Rows of all types, by number.
pub const ROWS: &str = "
    CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)
        SELECT i, (i * 7919) % 1009 AS h,
            CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN i WHEN 2 THEN i * 0.37 WHEN 3 THEN 'text ' || (i * 31 % 17)
                WHEN 4 THEN CAST('blob' || i AS BLOB) WHEN 5 THEN -i * 1000003 WHEN 6 THEN 1e300 / i
                WHEN 7 THEN 9007199254740993 + i ELSE i * 1.0 END AS any,
            substr('aBcDeFgHiJ', i % 7 + 1, i % 4) || substr('XxYyZz', i % 5 + 1, 2) || substr('  ', 1, i % 3) AS word
        FROM n;";

/// A database to be made.
pub struct Plan {
    pub name: &'static str,
    /// Before there is anything in it.
    pub first: &'static str,
    pub sql: &'static str,
    pub changes: &'static [&'static str],
    pub rewrites: &'static [(&'static str, &'static str)],
}

pub const PLANS: &[Plan] = &[
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
            CREATE INDEX t_later ON t (later, a);
            CREATE INDEX t_s ON t (s);
            CREATE INDEX t_v ON t (v, b);
            INSERT INTO t (a, b, later) SELECT i, word, h FROM n WHERE i < 40;
            CREATE TABLE u (a);
            INSERT INTO u SELECT any FROM n;
            ALTER TABLE u ADD COLUMN late INTEGER;
            CREATE INDEX u_late ON u (late, a);
            CREATE TABLE d (a);
            INSERT INTO d SELECT any FROM n;
            ALTER TABLE d ADD COLUMN n TEXT NOT NULL DEFAULT 'none';
            CREATE INDEX d_n ON d (n);
            INSERT INTO d SELECT i, 'some' FROM n WHERE i < 40;
            CREATE TABLE w (a PRIMARY KEY, b) WITHOUT ROWID;
            INSERT OR IGNORE INTO w SELECT coalesce(any, 0), i FROM n;
            ALTER TABLE w ADD COLUMN c;
            CREATE INDEX w_c ON w (c, b)",
        changes: &[
            "UPDATE t SET later = 17 WHERE rowid % 40 = 3",
            "UPDATE d SET n = 'other' WHERE rowid % 40 = 4",
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

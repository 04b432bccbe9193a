-- The tables and indexes of a hub that matter here, under the names that it gives them.
PRAGMA user_version = 15;
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, tag TEXT, namespace TEXT NOT NULL DEFAULT 'default', machine_id TEXT,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, metadata TEXT,
    agent_state TEXT, active INTEGER DEFAULT 0, seq INTEGER DEFAULT 0
);
CREATE INDEX idx_sessions_tag ON sessions (tag);
CREATE TABLE machines (
    id TEXT PRIMARY KEY, namespace TEXT NOT NULL DEFAULT 'default', created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL, metadata TEXT, runner_state TEXT, active INTEGER DEFAULT 0
);
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, platform TEXT NOT NULL, platform_user_id TEXT NOT NULL,
    namespace TEXT NOT NULL DEFAULT 'default', created_at INTEGER NOT NULL,
    UNIQUE (platform, platform_user_id)
);
CREATE TABLE messages (
    id TEXT PRIMARY KEY, session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    content TEXT NOT NULL, created_at INTEGER NOT NULL, seq INTEGER NOT NULL, local_id TEXT,
    invoked_at INTEGER
);
CREATE INDEX idx_messages_session ON messages (session_id, seq);
CREATE INDEX idx_messages_position
    ON messages (session_id, coalesce(invoked_at, created_at) DESC, seq DESC);
CREATE UNIQUE INDEX idx_messages_local_id ON messages (session_id, local_id)
    WHERE local_id IS NOT NULL;

-- What a fork's full-text search adds.
PRAGMA user_version = 28;
CREATE TABLE fcm_devices (
    id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL DEFAULT 'default',
    token TEXT NOT NULL UNIQUE, platform TEXT NOT NULL, created_at INTEGER NOT NULL
);
CREATE VIRTUAL TABLE message_content_search USING fts5 (
    searchable_text, message_id UNINDEXED, session_id UNINDEXED, seq UNINDEXED,
    created_at UNINDEXED, role UNINDEXED, tokenize = 'trigram'
);
CREATE TABLE message_content_search_lookup (
    search_rowid INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT NOT NULL UNIQUE,
    target_message_id TEXT NOT NULL
);
CREATE INDEX idx_message_content_search_lookup_target
    ON message_content_search_lookup (target_message_id);
CREATE TABLE message_content_search_short (
    gram TEXT NOT NULL, search_rowid INTEGER NOT NULL, PRIMARY KEY (gram, search_rowid)
) WITHOUT ROWID;
CREATE INDEX idx_message_content_search_short_rowid
    ON message_content_search_short (search_rowid);

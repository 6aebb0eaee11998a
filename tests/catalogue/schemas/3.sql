CREATE TABLE models (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    locator TEXT NOT NULL,
    path TEXT,
    architecture TEXT,
    type TEXT,
    status TEXT NOT NULL,
    parameter_count INTEGER,
    size_label TEXT,
    quantization TEXT,
    file_type INTEGER,
    context_length INTEGER,
    embedding_length INTEGER,
    block_count INTEGER,
    head_count INTEGER,
    head_count_kv INTEGER,
    feed_forward_length INTEGER,
    vocab_size INTEGER,
    file_size INTEGER,
    sha256 TEXT,
    license TEXT,
    tags TEXT NOT NULL DEFAULT '[]',
    host TEXT,
    parameters TEXT,
    source_id TEXT,
    modified_at TEXT,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL, capabilities TEXT, revision TEXT,
    PRIMARY KEY (id),
    UNIQUE (locator)
) STRICT;

CREATE TABLE model_files (
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    weights TEXT NOT NULL,
    path TEXT NOT NULL,
    role TEXT NOT NULL,
    size INTEGER,
    mtime_ns INTEGER,
    sha256 TEXT,
    device INTEGER,
    inode INTEGER,
    PRIMARY KEY (model_id, weights, path)
) STRICT, WITHOUT ROWID;

CREATE INDEX model_files_weights ON model_files (weights);

CREATE INDEX model_files_inode ON model_files (inode, device) WHERE inode IS NOT NULL;

CREATE INDEX model_files_sha256 ON model_files (sha256) WHERE sha256 IS NOT NULL;

CREATE TABLE model_places (
    host TEXT NOT NULL,
    root TEXT NOT NULL,
    locator TEXT NOT NULL,
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT,
    PRIMARY KEY (host, root, locator)
) STRICT, WITHOUT ROWID;

CREATE INDEX model_places_model ON model_places (model_id);

CREATE TABLE roots (
    host TEXT NOT NULL,
    root TEXT NOT NULL,
    source TEXT NOT NULL,
    device INTEGER,
    status TEXT NOT NULL CHECK (status IN ('online', 'offline')),
    imported_at TEXT NOT NULL, position TEXT,
    PRIMARY KEY (host, root)
) STRICT, WITHOUT ROWID;

PRAGMA application_id = 1298418771;

PRAGMA user_version = 3;

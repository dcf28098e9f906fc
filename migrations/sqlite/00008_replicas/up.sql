-- Ours: contents of datasets and replicas (docs/replicas.md). A generation is one
-- whole content; of each dataset and each replica at most one is live. A replica's
-- bootstrap fills another one, which then takes its place.
CREATE TABLE dataset_generations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('dataset', 'replica')),
    name TEXT NOT NULL,
    live BOOLEAN NOT NULL DEFAULT 0 CHECK (live IN (0, 1)),
    -- Of the publisher; random, new when a dataset is created or restored.
    epoch TEXT NOT NULL,
    -- Moves by one with each change of a dataset; a replica's is its publisher's.
    head BIGINT NOT NULL DEFAULT 0,
    -- Entries, and bytes of their keys and values.
    len BIGINT NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0,
    -- Lowest head from which `dataset_changes` reaches the present one.
    oldest_head BIGINT NOT NULL DEFAULT 0,
    -- Modifications kept in `dataset_changes`, and their bytes.
    history_changes BIGINT NOT NULL DEFAULT 0,
    history_bytes BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMP NOT NULL,
    changed_at TIMESTAMP NOT NULL,
    -- Given up or replaced at: its rows are removed in steps.
    dropped_at TIMESTAMP,
    -- The table of ours that it is published from, which is published as one
    -- dataset only; NULL: none. Then how far what the table and the dataset hold
    -- has been noted, NULL: all of it; and when a server last said that it is
    -- configured so.
    source TEXT,
    source_cursor TEXT,
    source_at TIMESTAMP
);

CREATE UNIQUE INDEX dataset_generations_live ON dataset_generations (kind, name) WHERE live;
CREATE INDEX dataset_generations_by_name ON dataset_generations (kind, name);
CREATE UNIQUE INDEX dataset_generations_by_source ON dataset_generations (source)
    WHERE source IS NOT NULL;

-- Ours: the entries. Keys are in the order of their bytes.
CREATE TABLE dataset_entries (
    generation BIGINT NOT NULL,
    key TEXT NOT NULL,
    -- JSON, as it came.
    value TEXT NOT NULL,
    PRIMARY KEY (generation, key)
) WITHOUT ROWID;

-- Ours: history. A row brings any head from `from_head` on to `head`.
CREATE TABLE dataset_changes (
    generation BIGINT NOT NULL,
    head BIGINT NOT NULL,
    from_head BIGINT NOT NULL,
    -- Modifications in it, and their bytes.
    changes BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    changed_at TIMESTAMP NOT NULL,
    -- JSON: a list of {"update":[key, value]} and {"delete":key}, oldest first.
    modifications TEXT NOT NULL,
    PRIMARY KEY (generation, head)
);

-- Ours: first outcomes by Idempotency-Key.
CREATE TABLE dataset_requests (
    dataset TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    -- SHA-256 of what was sent.
    fingerprint TEXT NOT NULL,
    epoch TEXT NOT NULL,
    head BIGINT NOT NULL,
    requested_at TIMESTAMP NOT NULL,
    PRIMARY KEY (dataset, idempotency_key)
);

CREATE INDEX dataset_requests_by_time ON dataset_requests (requested_at);

-- Ours: rows of our own tables that changed and are to be published. Filled by
-- triggers, which are there only while such a dataset is configured. The key is
-- JSON: a list of the row's key columns, or a key of the dataset; null: all are to
-- be noted anew.
CREATE TABLE dataset_source_changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    key TEXT NOT NULL
);

CREATE INDEX dataset_source_changes_by_source ON dataset_source_changes (source, seq);

-- Ours: how replicas stand, beside their generations.
CREATE TABLE replicas (
    name TEXT NOT NULL PRIMARY KEY,
    -- Since when, and why, the upstream cannot bring it up to date by a diff.
    stale_at TIMESTAMP,
    stale_reason TEXT,
    -- Highest head that an upstream told of, and when one was last heard.
    upstream_head BIGINT,
    heard_at TIMESTAMP,
    -- Since when it holds all that its upstream has.
    level_at TIMESTAMP,
    -- Bootstraps by reason, a JSON object of counts; repaired ranges.
    bootstraps TEXT NOT NULL DEFAULT '{}',
    repairs BIGINT NOT NULL DEFAULT 0,
    -- Bootstraps that came to nothing since one was completed, because the
    -- history was shorter than they took.
    outrun BIGINT NOT NULL DEFAULT 0,
    -- The last whole audit: when it ended, how many ranges differed; and how far
    -- the present one is.
    audited_at TIMESTAMP,
    audit_differences BIGINT,
    audit_cursor TEXT,
    -- The bootstrap under way.
    generation BIGINT,
    bootstrap_reason TEXT,
    bootstrap_at TIMESTAMP,
    -- Entries that its publisher had when it began.
    bootstrap_len BIGINT
);

-- Ours: ranges of a bootstrap, each with its own cursor and head.
CREATE TABLE replica_ranges (
    generation BIGINT NOT NULL,
    range BIGINT NOT NULL,
    -- Keys behind `after`, up to `until`; NULL: to the end.
    after TEXT NOT NULL,
    until TEXT,
    -- Last key that was fetched; all up to it is at `head`.
    cursor TEXT NOT NULL,
    head BIGINT NOT NULL,
    -- Entries up to the cursor.
    len BIGINT NOT NULL DEFAULT 0,
    done BOOLEAN NOT NULL DEFAULT 0 CHECK (done IN (0, 1)),
    PRIMARY KEY (generation, range)
);

-- To be read by applications: what replicas hold, and what is published here.
CREATE VIEW replica_entries AS
    SELECT g.name AS replica, e.key, e.value
    FROM dataset_generations g JOIN dataset_entries e ON e.generation = g.id
    WHERE g.kind = 'replica' AND g.live;

CREATE VIEW published_entries AS
    SELECT g.name AS dataset, e.key, e.value
    FROM dataset_generations g JOIN dataset_entries e ON e.generation = g.id
    WHERE g.kind = 'dataset' AND g.live;

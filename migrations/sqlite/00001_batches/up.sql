-- Public contract: applications insert and read here (docs/batches.md).
-- The key is (ledger, service_id, batch_id). It is a UNIQUE constraint, since
-- only SQLite's integer primary key can grow with every insert and never
-- repeat a number (AUTOINCREMENT).
CREATE TABLE batches (
    ledger TEXT NOT NULL CHECK (typeof(ledger) = 'text' AND length(ledger) BETWEEN 1 AND 256),
    service_id TEXT NOT NULL DEFAULT '' CHECK (typeof(service_id) = 'text' AND length(service_id) <= 1024),
    batch_id TEXT NOT NULL CHECK (typeof(batch_id) = 'text' AND length(batch_id) <= 1024),
    -- The bound keeps a number given by hand from using up all that follow.
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq BETWEEN 1 AND 4611686018427387904),
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'valid', 'committed', 'invalid', 'lost', 'refused')),
    invalid_transactions TEXT NOT NULL DEFAULT '[]',
    submitted_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
        CHECK (submitted_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'
            AND substr(submitted_at, 1, 4) >= '1970' AND substr(submitted_at, 6, 2) BETWEEN '01' AND '12'
            AND substr(submitted_at, 9, 2) BETWEEN '01' AND '31' AND substr(submitted_at, 12, 2) <= '23'),
    last_polled_at TIMESTAMP
        CHECK (last_polled_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'
            AND substr(last_polled_at, 1, 4) >= '1970' AND substr(last_polled_at, 6, 2) BETWEEN '01' AND '12'
            AND substr(last_polled_at, 9, 2) BETWEEN '01' AND '31' AND substr(last_polled_at, 12, 2) <= '23'),
    polls INTEGER NOT NULL DEFAULT 0 CHECK (typeof(polls) = 'integer'),
    unknowns INTEGER NOT NULL DEFAULT 0 CHECK (typeof(unknowns) = 'integer'),
    -- NULL: due at once. Sweeps go by it, so it is to the millisecond exactly.
    next_poll_at TIMESTAMP
        CHECK (next_poll_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9]'
            AND substr(next_poll_at, 1, 4) >= '1970' AND substr(next_poll_at, 6, 2) BETWEEN '01' AND '12'
            AND substr(next_poll_at, 9, 2) BETWEEN '01' AND '31' AND substr(next_poll_at, 12, 2) <= '23'),
    settled_at TIMESTAMP
        CHECK (settled_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'
            AND substr(settled_at, 1, 4) >= '1970' AND substr(settled_at, 6, 2) BETWEEN '01' AND '12'
            AND substr(settled_at, 9, 2) BETWEEN '01' AND '31' AND substr(settled_at, 12, 2) <= '23'),
    last_error TEXT,
    -- Ours: the newest polls, ten characters each.
    poll_log TEXT NOT NULL DEFAULT '',
    UNIQUE (ledger, service_id, batch_id)
);

CREATE INDEX batches_due ON batches (ledger, next_poll_at, seq)
    WHERE status IN ('pending', 'valid');
CREATE INDEX batches_outstanding ON batches (ledger, service_id, next_poll_at)
    WHERE status IN ('pending', 'valid');
CREATE INDEX batches_by_status ON batches (ledger, status, seq);
CREATE INDEX batches_settled ON batches (settled_at) WHERE settled_at IS NOT NULL;

CREATE TABLE batch_transactions (
    ledger TEXT NOT NULL,
    service_id TEXT NOT NULL DEFAULT '',
    batch_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    PRIMARY KEY (ledger, service_id, batch_id, transaction_id)
) WITHOUT ROWID;

CREATE INDEX batch_transactions_by_transaction
    ON batch_transactions (ledger, service_id, transaction_id);

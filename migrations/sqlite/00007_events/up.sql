-- Public contract, to be read: every event of a subscription (docs/events.md).
CREATE TABLE events (
    subscription TEXT NOT NULL,
    -- Ledger's block; where its stream has none, a local number in the order of
    -- first arrival.
    block BIGINT NOT NULL CHECK (block >= 0),
    -- Empty for events of a block.
    tx_id TEXT NOT NULL,
    -- The gateway's ordinal, or a hash of the payload.
    event_id TEXT NOT NULL,
    -- In the order of recording; unique in a subscription, with gaps.
    arrival BIGINT NOT NULL,
    event_name TEXT NOT NULL,
    payload TEXT NOT NULL,
    received_at TIMESTAMP NOT NULL,
    decision TEXT NOT NULL DEFAULT 'pending'
        CHECK (decision IN ('pending', 'relevant', 'irrelevant', 'skipped')),
    -- When its handler was done with it; of relevant ones, and of those that were
    -- skipped while their handler had them.
    processed_at TIMESTAMP,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    -- Ours: place within the block (0 where arrival decides), the key by which
    -- it is judged, when it happened, when it was decided, whether it came after
    -- its place was passed, when its block was abandoned by the ledger, and how
    -- many of the attempts were made before an operator had it tried anew.
    rank BIGINT NOT NULL DEFAULT 0,
    attempts_before INTEGER NOT NULL DEFAULT 0,
    event_key TEXT,
    occurred_at TIMESTAMP,
    decided_at TIMESTAMP,
    late BOOLEAN NOT NULL DEFAULT 0 CHECK (late IN (0, 1)),
    abandoned_at TIMESTAMP,
    PRIMARY KEY (subscription, block, tx_id, event_id)
);

CREATE UNIQUE INDEX events_by_arrival ON events (subscription, arrival);
CREATE INDEX events_open ON events (subscription, block, rank, arrival)
    WHERE decision = 'pending' OR (decision = 'relevant' AND processed_at IS NULL);
CREATE INDEX events_by_transaction ON events (tx_id, subscription);
-- Few: blocks are seldom abandoned.
CREATE INDEX events_abandoned ON events (subscription) WHERE abandoned_at IS NOT NULL;

-- Ours: how far a subscription has come. A row appears with its first event.
CREATE TABLE subscriptions (
    name TEXT NOT NULL PRIMARY KEY,
    -- Arrival of the newest event; locked by whoever records.
    last_arrival BIGINT NOT NULL DEFAULT 0,
    -- The two highest blocks of which events are known.
    highest_block BIGINT,
    second_block BIGINT,
    -- Place of the newest event, in order, before which all are done with.
    position_block BIGINT,
    position_rank BIGINT,
    position_arrival BIGINT,
    last_event_at TIMESTAMP,
    -- Orders of operators so far (retry, skip, pause, resume, replay), and forks: what the
    -- Subscriber writes holds only under the number that it knows.
    orders BIGINT NOT NULL DEFAULT 0,
    -- By an operator, with a reason.
    paused_at TIMESTAMP,
    pause_reason TEXT,
    -- Halted on an event: its arrival, since when, and why.
    halted_arrival BIGINT,
    halted_at TIMESTAMP,
    halt_error TEXT,
    -- What the source has to remember: a JSON document of its own.
    source_state TEXT,
    -- Its stream has no block numbers: events got local ones, and are known again
    -- by transaction and event id alone.
    local_blocks BOOLEAN NOT NULL DEFAULT 0 CHECK (local_blocks IN (0, 1)),
    -- Events up to this arrival are past their retention, and gone; with local
    -- blocks their payload is, since streams without blocks repeat from the start.
    pruned_arrival BIGINT NOT NULL DEFAULT 0,
    -- An operator let late events up to this arrival be processed.
    late_to BIGINT NOT NULL DEFAULT 0
);

-- Ours: events by decision and the hour in which they were recorded, kept in step
-- with `events` so that nobody has to count them. `processed` are those of
-- `relevant` whose handler is done.
CREATE TABLE event_counts (
    subscription TEXT NOT NULL,
    bucket_at TIMESTAMP NOT NULL,
    decision TEXT NOT NULL
        CHECK (decision IN ('pending', 'relevant', 'irrelevant', 'skipped', 'processed')),
    count BIGINT NOT NULL,
    PRIMARY KEY (subscription, bucket_at, decision)
) WITHOUT ROWID;

-- Public contract: what makes an event relevant; applications insert here.
CREATE TABLE known_transactions (
    tx_id TEXT NOT NULL PRIMARY KEY CHECK (typeof(tx_id) = 'text' AND length(tx_id) BETWEEN 1 AND 256),
    known_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
) WITHOUT ROWID;

-- Public contract: what makes an event relevant; applications insert here.
CREATE TABLE known_keys (
    key TEXT NOT NULL PRIMARY KEY CHECK (typeof(key) = 'text' AND length(key) BETWEEN 1 AND 1024),
    known_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
) WITHOUT ROWID;

-- Public contract: applications insert, change and read here (docs/sites.md).
-- The key is site_id. It is a UNIQUE constraint, since only SQLite's integer
-- primary key can grow with every insert and never repeat a number.
CREATE TABLE sites (
    seq INTEGER PRIMARY KEY AUTOINCREMENT CHECK (seq BETWEEN 1 AND 4611686018427387904),
    site_id TEXT NOT NULL UNIQUE CHECK (typeof(site_id) = 'text' AND length(site_id) BETWEEN 1 AND 256),
    app_id TEXT NOT NULL CHECK (typeof(app_id) = 'text' AND length(app_id) BETWEEN 1 AND 256),
    url TEXT NOT NULL CHECK (typeof(url) = 'text' AND length(url) BETWEEN 1 AND 2048),
    batch_code INTEGER NOT NULL DEFAULT ((random() & 9223372036854775807) % 10001)
        CHECK (typeof(batch_code) = 'integer' AND batch_code BETWEEN 0 AND 10000),
    enabled BOOLEAN NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    labels TEXT NOT NULL DEFAULT '{}'
        CHECK (length(labels) <= 16384 AND json_valid(labels) AND json_type(labels) = 'object'),
    created_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
        CHECK (created_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'
            AND substr(created_at, 1, 4) >= '1970' AND substr(created_at, 6, 2) BETWEEN '01' AND '12'
            AND substr(created_at, 9, 2) BETWEEN '01' AND '31' AND substr(created_at, 12, 2) <= '23')
);

CREATE INDEX sites_by_app ON sites (app_id, seq);
CREATE INDEX sites_by_app_and_id ON sites (app_id, site_id);

-- Public contract, to be read: how a site stands with a job (docs/sites.md).
CREATE TABLE poll_status (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    site_id TEXT NOT NULL,
    job_name TEXT NOT NULL,
    level INTEGER NOT NULL DEFAULT 0,
    count INTEGER NOT NULL DEFAULT 0,
    last_run_at TIMESTAMP,
    -- NULL: given up.
    next_due_at TIMESTAMP,
    last_outcome TEXT CHECK (last_outcome IN ('success', 'failure')),
    last_error TEXT,
    last_duration_ms BIGINT,
    given_up_at TIMESTAMP,
    -- Ours: of the site, kept here so that what is due is found by one index.
    app_id TEXT NOT NULL,
    batch_code INTEGER NOT NULL,
    enabled BOOLEAN NOT NULL,
    -- Ours: the newest polls, in a fixed number of characters each.
    poll_log TEXT NOT NULL DEFAULT '',
    UNIQUE (site_id, job_name)
);

CREATE INDEX poll_status_due ON poll_status (app_id, job_name, next_due_at, seq)
    WHERE enabled AND next_due_at IS NOT NULL;
-- The others: which jobs there are is read from both, and visits touch one.
CREATE INDEX poll_status_resting ON poll_status (app_id, job_name)
    WHERE NOT enabled OR next_due_at IS NULL;

-- Ours: what handlers learned, newest last; a row for each document that
-- differs from the one before.
CREATE TABLE poll_results (
    status_seq INTEGER NOT NULL,
    run_at TIMESTAMP NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (status_seq, run_at)
) WITHOUT ROWID;

-- Ours: outcomes of a job over time, for its chart.
CREATE TABLE job_outcomes (
    app_id TEXT NOT NULL,
    job_name TEXT NOT NULL,
    bucket_at TIMESTAMP NOT NULL,
    successes BIGINT NOT NULL DEFAULT 0,
    failures BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (app_id, job_name, bucket_at)
) WITHOUT ROWID;

-- Ours: hosts that asked to be left alone (Retry-After), until when.
CREATE TABLE host_pauses (
    host TEXT NOT NULL PRIMARY KEY,
    until_at TIMESTAMP NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER sites_identity BEFORE UPDATE OF seq, site_id, app_id, batch_code ON sites
WHEN NEW.seq <> OLD.seq OR NEW.site_id <> OLD.site_id OR NEW.app_id <> OLD.app_id
    OR NEW.batch_code <> OLD.batch_code
BEGIN
    SELECT RAISE(ABORT, 'site_id, app_id and batch_code of a site never change: remove the site and add it anew');
END;

CREATE TRIGGER sites_enabled AFTER UPDATE OF enabled ON sites WHEN NEW.enabled <> OLD.enabled
BEGIN
    UPDATE poll_status SET enabled = NEW.enabled WHERE site_id = NEW.site_id;
END;

CREATE TRIGGER sites_removed AFTER DELETE ON sites
BEGIN
    DELETE FROM poll_results WHERE status_seq IN (SELECT seq FROM poll_status WHERE site_id = OLD.site_id);
    DELETE FROM poll_status WHERE site_id = OLD.site_id;
END;

-- Since when the holder has it, to be shown.
ALTER TABLE leases ADD COLUMN acquired_at TIMESTAMP;

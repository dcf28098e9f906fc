-- What operators changed, or tried to: who, what, when, and how it ended.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    -- '' where the action has none.
    target TEXT NOT NULL DEFAULT '',
    -- JSON.
    details TEXT,
    outcome TEXT NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
    problem TEXT
);

CREATE INDEX audit_at ON audit (at);

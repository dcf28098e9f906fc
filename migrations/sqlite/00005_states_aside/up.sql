-- Saved states that could not be read, kept for an operator to look at: the
-- newest few of each service, until they are dropped.
CREATE TABLE service_states_aside (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    version INTEGER NOT NULL,
    value TEXT NOT NULL,
    saved_at TIMESTAMP NOT NULL,
    set_aside_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    problem TEXT NOT NULL
);

CREATE INDEX service_states_aside_by_service ON service_states_aside (service, id);

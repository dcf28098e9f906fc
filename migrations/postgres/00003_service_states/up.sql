-- What a service keeps across restarts: soft state, as JSON of a version.
CREATE TABLE service_states (
    service TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    value TEXT NOT NULL,
    saved_at TIMESTAMP(3) NOT NULL
);

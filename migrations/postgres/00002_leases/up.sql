-- Who works on what: a name is held by one holder until expires_at, by the
-- database's clock; every change of holder raises the epoch.
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    expires_at TIMESTAMP(3) NOT NULL
);

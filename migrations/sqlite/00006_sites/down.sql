ALTER TABLE leases DROP COLUMN acquired_at;
DROP TRIGGER sites_removed;
DROP TRIGGER sites_enabled;
DROP TRIGGER sites_identity;
DROP TABLE host_pauses;
DROP TABLE job_outcomes;
DROP TABLE poll_results;
DROP TABLE poll_status;
DROP TABLE sites;

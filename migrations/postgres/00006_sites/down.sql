ALTER TABLE leases DROP COLUMN acquired_at;
DROP TABLE host_pauses;
DROP TABLE job_outcomes;
DROP TABLE poll_results;
DROP TABLE poll_status;
DROP TABLE sites;
DROP FUNCTION sites_removed;
DROP FUNCTION sites_enabled;
DROP FUNCTION sites_identity;

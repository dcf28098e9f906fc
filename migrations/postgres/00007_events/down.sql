DROP TABLE known_keys;
DROP TABLE known_transactions;
DROP TABLE event_counts;
DROP TABLE subscriptions;
DROP TABLE events;

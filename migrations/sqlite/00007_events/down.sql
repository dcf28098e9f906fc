DROP TABLE known_keys;
DROP TABLE known_transactions;
DROP TABLE subscription_blocks;
DROP TABLE event_counts;
DROP TABLE subscriptions;
DROP TABLE events;

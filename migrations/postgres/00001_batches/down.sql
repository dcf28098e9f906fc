DROP TABLE batch_transactions;
DROP TABLE batches;

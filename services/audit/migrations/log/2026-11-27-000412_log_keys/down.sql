DROP TABLE log_key;

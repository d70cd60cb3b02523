DROP TABLE participant;
DROP TABLE session;
DROP TABLE account;
DROP TABLE portrait;
DROP TABLE data_key;
DROP TABLE guard;
DROP TABLE txn;

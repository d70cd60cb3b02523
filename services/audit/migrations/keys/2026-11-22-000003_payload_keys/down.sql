DROP TABLE payload_key;

-- The keys of payloads, wrapped: one per subject and class, one per class and month.
CREATE TABLE payload_key (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

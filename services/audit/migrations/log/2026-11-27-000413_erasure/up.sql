-- What is to be erased and what was: one row for each key, by its name in the key database. due: while it waits.
CREATE TABLE erasure (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX erasure_by_due ON erasure(due) WHERE due IS NOT NULL;
-- What holds erasures back. active: a byte while it is in force.
CREATE TABLE legal_hold (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    active BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX legal_hold_active ON legal_hold(active, id) WHERE active IS NOT NULL;
-- Who does not know that leaves are cleared would bring back what they were found by.
INSERT INTO needed(version) VALUES ('20261127000413');

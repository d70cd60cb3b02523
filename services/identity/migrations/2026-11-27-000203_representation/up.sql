-- Who may act for whom. principal: where it lives, and open: the same until it has ended; representative: once there is
-- one; due: when its time ends, until it has.
CREATE TABLE representation (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    principal BYTEA NOT NULL,
    representative BYTEA,
    open BYTEA,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX representation_principal ON representation(principal, id);
CREATE INDEX representation_representative ON representation(representative, id);
CREATE INDEX representation_open ON representation(partition, open);
CREATE INDEX representation_by_due ON representation(due);

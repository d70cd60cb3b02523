CREATE TABLE counter (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    owner BYTEA CHECK (length(owner) < 100),
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX counter_by_owner ON counter(partition, owner);
CREATE INDEX counter_by_due ON counter(due);

-- A person's search for her records at one provider.
CREATE TABLE discovery (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX discovery_by_due ON discovery (due);
-- A profile that she shared at a counter.
CREATE TABLE profile_share (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX profile_share_by_due ON profile_share (due);

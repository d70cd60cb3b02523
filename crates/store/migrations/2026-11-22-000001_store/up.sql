-- One row per database: what it is and how it is divided.
CREATE TABLE database (
    id BIGINT NOT NULL PRIMARY KEY,
    name BYTEA NOT NULL,
    partitions BIGINT NOT NULL
);
-- The head of a partition: its lock, the next position of its feed, its time and the hash chain over the feed.
CREATE TABLE head (
    partition BIGINT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    next BIGINT NOT NULL,
    time BIGINT NOT NULL,
    chain BYTEA NOT NULL
);
-- Every event, in commit order per partition, without a gap.
CREATE TABLE feed (
    partition BIGINT NOT NULL,
    position BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    time BIGINT NOT NULL,
    event_id BYTEA NOT NULL,
    subject BYTEA,
    chain BYTEA NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, position)
);
-- What a request id did. The key begins with the hour of the id, so that old ones leave by range.
CREATE TABLE request (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- What must be unique across subjects: a keyed hash and who owns it.
CREATE TABLE claim (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

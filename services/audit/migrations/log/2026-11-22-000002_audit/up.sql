-- The head of the log: size, right edge, what was signed.
CREATE TABLE log (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- One leaf: the bytes that are hashed, and the sealed payload beside them. The look-ups are keyed hashes.
CREATE TABLE leaf (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    event_id BYTEA,
    subject BYTEA,
    consent BYTEA,
    resource BYTEA,
    actor BYTEA,
    trace BYTEA,
    day BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX leaf_by_event ON leaf(event_id, partition);
CREATE INDEX leaf_by_subject ON leaf(subject, id) WHERE subject IS NOT NULL;
CREATE INDEX leaf_by_consent ON leaf(consent, id) WHERE consent IS NOT NULL;
CREATE INDEX leaf_by_resource ON leaf(resource, id) WHERE resource IS NOT NULL;
CREATE INDEX leaf_by_actor ON leaf(actor, id) WHERE actor IS NOT NULL;
CREATE INDEX leaf_by_trace ON leaf(trace, id) WHERE trace IS NOT NULL;
CREATE INDEX leaf_by_day ON leaf(day, id);
-- Which participants an event names: there may be several.
CREATE TABLE mention (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    party BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX mention_by_party ON mention(party, id);
-- How far the feed of a service has come, per epoch and partition.
CREATE TABLE source (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- The chain of one subject's events.
CREATE TABLE subject (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- Full hash tiles; those at the right edge are in the head of the log.
CREATE TABLE tile (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- What was signed, one row per size, never changed.
CREATE TABLE checkpoint (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

-- What store.append inserts.
CREATE TABLE entry (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- What store.approve loads and writes: as many rows, look-ups and indexes as the approval of a consent request.
CREATE TABLE asked (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX asked_by_subject ON asked(partition, subject);
CREATE TABLE given (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX given_by_subject ON given(partition, subject);
CREATE TABLE artefact (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
CREATE TABLE notification (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX notification_by_subject ON notification(partition, subject);

-- One proof of one thing: challenged, verified, consumed.
CREATE TABLE txn (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- What was sent to, and guessed about, one keyed hash: OTPs, wrong guesses, blocks, wrong passwords.
CREATE TABLE guard (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- The key of one person's data, wrapped. A table of its own, so that destroying a row destroys her data.
CREATE TABLE data_key (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- Photo and postal address, sealed: read in the full view alone.
CREATE TABLE portrait (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- inactive: a byte while the account is not ACTIVE.
CREATE TABLE account (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    inactive BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX account_inactive ON account(inactive, id);
-- live: the holder while the session has not ended; ended and end_time: once it has, for whoever must be told.
CREATE TABLE session (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    live BYTEA,
    ended BYTEA,
    end_time BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX session_live ON session(partition, live);
CREATE INDEX session_ended ON session(partition, ended, end_time);
CREATE TABLE participant (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

-- Notices that were published, with their versions. owner: whose; listed: the same in all.
CREATE TABLE notice (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    owner BYTEA NOT NULL,
    listed BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
CREATE INDEX notice_owner ON notice(partition, owner);
CREATE INDEX notice_owner_id ON notice(owner, id);
CREATE INDEX notice_listed ON notice(listed, id);
-- The words of each version; id: the notice and the version.
CREATE TABLE notice_texts (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

-- How many entries of each status list are given; `open` is set while it has room.
CREATE TABLE status_list (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    open BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX status_list_by_partition_open ON status_list (partition, open);
-- The list that tells of a consent. Consents of before have none.
ALTER TABLE consent ADD COLUMN status_list BYTEA;
CREATE INDEX consent_by_status_list_id ON consent (status_list, id);

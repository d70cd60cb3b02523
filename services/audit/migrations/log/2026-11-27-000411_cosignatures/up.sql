-- What witnesses signed beside the log, a row for each witness and size, never changed.
CREATE TABLE cosignature (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    size BYTEA,
    witness BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX cosignature_by_size ON cosignature(size, partition);
CREATE INDEX cosignature_by_witness ON cosignature(witness, id);

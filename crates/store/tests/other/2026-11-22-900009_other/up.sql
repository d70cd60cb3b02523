CREATE TABLE other (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

-- How a log ended, and which one it goes on from. Apart from its head, which older code rewrites without what it does not know.
CREATE TABLE succession (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

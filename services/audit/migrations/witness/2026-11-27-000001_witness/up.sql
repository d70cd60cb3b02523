-- The newest checkpoint of each log that this witness cosigned. It is compared and replaced under the lock.
CREATE TABLE witnessed (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

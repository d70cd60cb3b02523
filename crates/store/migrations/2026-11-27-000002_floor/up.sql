-- The feed below the floor is gone. Old code, which does not know it, reads from where its consumers are: above it.
ALTER TABLE head ADD COLUMN floor BIGINT NOT NULL DEFAULT 0;
-- How far a consumer outside of this database has got, durably: nothing that it still needs is pruned.
CREATE TABLE cursor (
    partition BIGINT NOT NULL,
    consumer BYTEA NOT NULL,
    next BIGINT NOT NULL,
    PRIMARY KEY (partition, consumer)
);

-- What a next version might bring: a table, and columns in tables that this one inserts into and reads.
CREATE TABLE badge (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
ALTER TABLE counter ADD COLUMN colour BYTEA;
ALTER TABLE counter ADD COLUMN weight BIGINT NOT NULL DEFAULT 1;
CREATE INDEX counter_by_colour ON counter (partition, colour);
ALTER TABLE head ADD COLUMN mark BIGINT NOT NULL DEFAULT 0;
ALTER TABLE feed ADD COLUMN colour BYTEA;
ALTER TABLE feed ADD COLUMN weight BIGINT NOT NULL DEFAULT 1;
ALTER TABLE request ADD COLUMN colour BYTEA;
ALTER TABLE request ADD COLUMN weight BIGINT NOT NULL DEFAULT 1;
ALTER TABLE claim ADD COLUMN colour BYTEA;
ALTER TABLE claim ADD COLUMN weight BIGINT NOT NULL DEFAULT 1;
ALTER TABLE database ADD COLUMN colour BYTEA;
ALTER TABLE cursor ADD COLUMN weight BIGINT NOT NULL DEFAULT 1;

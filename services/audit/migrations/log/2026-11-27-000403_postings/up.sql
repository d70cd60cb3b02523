-- Look-ups go by postings, many to a row: an index of its own for each of seven columns cost more than the leaves.
CREATE TABLE posting (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
DROP INDEX leaf_by_subject;
DROP INDEX leaf_by_consent;
DROP INDEX leaf_by_resource;
DROP INDEX leaf_by_actor;
DROP INDEX leaf_by_trace;
DROP INDEX leaf_by_day;
ALTER TABLE leaf DROP COLUMN subject;
ALTER TABLE leaf DROP COLUMN consent;
ALTER TABLE leaf DROP COLUMN resource;
ALTER TABLE leaf DROP COLUMN actor;
ALTER TABLE leaf DROP COLUMN trace;
ALTER TABLE leaf DROP COLUMN day;
-- `mention` is not read any more; it goes in a later release.
-- Who does not know postings would not find what is in the log.
INSERT INTO needed(version) VALUES ('20261127000403');

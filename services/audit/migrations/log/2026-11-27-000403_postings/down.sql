DELETE FROM needed WHERE version = '20261127000403';
CREATE TABLE mention (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    party BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX mention_by_party ON mention(party, id);
ALTER TABLE leaf ADD COLUMN subject BYTEA;
ALTER TABLE leaf ADD COLUMN consent BYTEA;
ALTER TABLE leaf ADD COLUMN resource BYTEA;
ALTER TABLE leaf ADD COLUMN actor BYTEA;
ALTER TABLE leaf ADD COLUMN trace BYTEA;
ALTER TABLE leaf ADD COLUMN day BYTEA;
CREATE INDEX leaf_by_subject ON leaf(subject, id) WHERE subject IS NOT NULL;
CREATE INDEX leaf_by_consent ON leaf(consent, id) WHERE consent IS NOT NULL;
CREATE INDEX leaf_by_resource ON leaf(resource, id) WHERE resource IS NOT NULL;
CREATE INDEX leaf_by_actor ON leaf(actor, id) WHERE actor IS NOT NULL;
CREATE INDEX leaf_by_trace ON leaf(trace, id) WHERE trace IS NOT NULL;
CREATE INDEX leaf_by_day ON leaf(day, id);
DROP TABLE posting;

-- Studies. `every` is the same for all; `due` is when the clock does the next thing to one.
CREATE TABLE study (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    sponsor BYTEA,
    every BYTEA,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX study_by_sponsor_id ON study (sponsor, id);
CREATE INDEX study_by_every_id ON study (every, id);
CREATE INDEX study_by_due ON study (due);
-- When a node last asked somebody for a study.
CREATE TABLE study_ask (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- What a run decided of one person.
CREATE TABLE cohort_use (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- What a run told, 500 people a row.
CREATE TABLE cohort_chunk (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- How often somebody counted a cohort.
CREATE TABLE cohort_count (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- The study that a consent was given to; the study that asks, while it does; a provider's own reference, hashed.
ALTER TABLE consent ADD COLUMN study BYTEA;
ALTER TABLE consent_request ADD COLUMN open_study BYTEA;
ALTER TABLE link ADD COLUMN reference BYTEA;
CREATE INDEX consent_by_study_id ON consent (study, id);
CREATE INDEX consent_request_by_open_study_id ON consent_request (open_study, id);
CREATE INDEX link_by_reference_id ON link (reference, id);

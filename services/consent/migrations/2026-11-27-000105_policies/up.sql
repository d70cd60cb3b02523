-- What she has decided beforehand. `enabled` is the person while it is in force.
CREATE TABLE policy (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA,
    enabled BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX policy_by_subject_id ON policy (subject, id);
CREATE INDEX policy_by_partition_subject ON policy (partition, subject);
CREATE INDEX policy_by_partition_enabled ON policy (partition, enabled);

-- What was asked. `open_pair` is set while it is REQUESTED: patient and asker.
CREATE TABLE consent_request (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA,
    hiu BYTEA,
    open_pair BYTEA,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX consent_request_by_subject_id ON consent_request (subject, id);
CREATE INDEX consent_request_by_hiu_id ON consent_request (hiu, id);
CREATE INDEX consent_request_by_partition_open_pair ON consent_request (partition, open_pair);
CREATE INDEX consent_request_by_due ON consent_request (due);
-- What was granted. `pair` is patient, giver and receiver; `live` is the patient while it can still permit.
CREATE TABLE consent (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA,
    hiu BYTEA,
    hip BYTEA,
    request BYTEA,
    pair BYTEA,
    live BYTEA,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX consent_by_subject_id ON consent (subject, id);
CREATE INDEX consent_by_hiu_id ON consent (hiu, id);
CREATE INDEX consent_by_hip_id ON consent (hip, id);
CREATE INDEX consent_by_partition_request ON consent (partition, request);
CREATE INDEX consent_by_partition_pair ON consent (partition, pair);
CREATE INDEX consent_by_partition_live ON consent (partition, live);
CREATE INDEX consent_by_due ON consent (due);
-- What is signed when it is fetched: both copies of each version of a consent.
CREATE TABLE artefact (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- That a provider keeps records of a person, under one reference of its own.
CREATE TABLE link (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA,
    hip BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX link_by_subject_id ON link (subject, id);
CREATE INDEX link_by_hip_id ON link (hip, id);
CREATE INDEX link_by_partition_subject ON link (partition, subject);
-- What is linked; the key is the natural one, hashed.
CREATE TABLE care_context (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA,
    link BYTEA,
    PRIMARY KEY (partition, id)
);
CREATE INDEX care_context_by_partition_subject ON care_context (partition, subject);
CREATE INDEX care_context_by_partition_link ON care_context (partition, link);
-- How often a provider asked for a link token for one identifier.
CREATE TABLE link_try (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);
-- What flows. `open` is the consent while the transfer can still go on.
CREATE TABLE transfer (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    open BYTEA,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX transfer_by_partition_open ON transfer (partition, open);
CREATE INDEX transfer_by_due ON transfer (due);
-- What somebody must hear. `pending` is the recipient until it is acknowledged.
CREATE TABLE notification (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    recipient BYTEA,
    pending BYTEA,
    position BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX notification_by_partition_recipient_position ON notification (partition, recipient, position);
CREATE INDEX notification_by_partition_pending_position ON notification (partition, pending, position);
-- The key that a person's data is sealed under, wrapped by the key-encryption key. Destroying it erases her.
CREATE TABLE data_key (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

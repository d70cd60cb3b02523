-- Who is told of what is new. `live` is the person while it may be; `open_pair` is set while it is REQUESTED.
CREATE TABLE subscription (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA,
    holder BYTEA,
    live BYTEA,
    open_pair BYTEA,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX subscription_by_subject_id ON subscription (subject, id);
CREATE INDEX subscription_by_holder_id ON subscription (holder, id);
CREATE INDEX subscription_by_partition_live ON subscription (partition, live);
CREATE INDEX subscription_by_partition_open_pair ON subscription (partition, open_pair);
CREATE INDEX subscription_by_due ON subscription (due);

-- What persons ask about their rights. against: of whom; listed: the same in all; open: the person while it is not settled;
-- due: by when it must be answered, while it is not.
CREATE TABLE rights_request (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    subject BYTEA NOT NULL,
    against BYTEA NOT NULL,
    listed BYTEA NOT NULL,
    open BYTEA,
    due BIGINT,
    PRIMARY KEY (partition, id)
);
CREATE INDEX rights_request_by_subject_id ON rights_request (subject, id);
CREATE INDEX rights_request_by_against_id ON rights_request (against, id);
CREATE INDEX rights_request_by_listed_id ON rights_request (listed, id);
CREATE INDEX rights_request_by_partition_open ON rights_request (partition, open);
CREATE INDEX rights_request_by_due ON rights_request (due);

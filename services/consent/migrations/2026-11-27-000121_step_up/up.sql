-- What a person has set to need her PIN, and the tokens that were used lately; by her account.
CREATE TABLE step_up (
    partition BIGINT NOT NULL,
    id BYTEA NOT NULL,
    version BIGINT NOT NULL,
    format BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (partition, id)
);

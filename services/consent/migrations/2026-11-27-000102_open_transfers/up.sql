-- Who takes part in a transfer while it can still go on: a participant that is suspended has its open ones cancelled.
ALTER TABLE transfer ADD COLUMN open_hip BYTEA;
ALTER TABLE transfer ADD COLUMN open_hiu BYTEA;
CREATE INDEX transfer_by_open_hip_id ON transfer (open_hip, id);
CREATE INDEX transfer_by_open_hiu_id ON transfer (open_hiu, id);

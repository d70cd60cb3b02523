-- Whose a transfer is, and between whom, once it is over too: they are listed.
ALTER TABLE transfer ADD COLUMN subject BYTEA;
ALTER TABLE transfer ADD COLUMN hip BYTEA;
ALTER TABLE transfer ADD COLUMN hiu BYTEA;
CREATE INDEX transfer_by_subject_id ON transfer (subject, id);
CREATE INDEX transfer_by_hip_id ON transfer (hip, id);
CREATE INDEX transfer_by_hiu_id ON transfer (hiu, id);

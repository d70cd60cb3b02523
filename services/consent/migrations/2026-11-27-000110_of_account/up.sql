-- Whose a discovery and a profile share is, so that they end with her account. Rows of before have none; they are over within
-- half an hour.
ALTER TABLE discovery ADD COLUMN subject BYTEA;
ALTER TABLE profile_share ADD COLUMN subject BYTEA;
CREATE INDEX discovery_by_subject_id ON discovery (subject, id);
CREATE INDEX profile_share_by_subject_id ON profile_share (subject, id);

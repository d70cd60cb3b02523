DROP INDEX discovery_by_subject_id;
DROP INDEX profile_share_by_subject_id;
ALTER TABLE discovery DROP COLUMN subject;
ALTER TABLE profile_share DROP COLUMN subject;

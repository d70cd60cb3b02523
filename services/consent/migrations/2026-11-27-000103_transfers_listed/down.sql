DROP INDEX transfer_by_subject_id;
DROP INDEX transfer_by_hip_id;
DROP INDEX transfer_by_hiu_id;
ALTER TABLE transfer DROP COLUMN subject;
ALTER TABLE transfer DROP COLUMN hip;
ALTER TABLE transfer DROP COLUMN hiu;

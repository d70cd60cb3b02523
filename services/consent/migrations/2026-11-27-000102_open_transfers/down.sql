DROP INDEX transfer_by_open_hip_id;
DROP INDEX transfer_by_open_hiu_id;
ALTER TABLE transfer DROP COLUMN open_hip;
ALTER TABLE transfer DROP COLUMN open_hiu;

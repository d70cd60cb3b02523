DROP INDEX payload_key_by_gone_id;
ALTER TABLE payload_key DROP COLUMN gone;

DROP INDEX consent_by_status_list_id;
ALTER TABLE consent DROP COLUMN status_list;
DROP TABLE status_list;

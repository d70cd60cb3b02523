ALTER TABLE database DROP COLUMN requests_from;

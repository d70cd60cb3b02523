-- A release later nobody looks a counter up by its due time any more.
DROP INDEX counter_by_due;
ALTER TABLE counter DROP COLUMN due;
INSERT INTO needed(version) VALUES ('20261128900002');

DROP INDEX source_by_feed;
ALTER TABLE source DROP COLUMN feed;

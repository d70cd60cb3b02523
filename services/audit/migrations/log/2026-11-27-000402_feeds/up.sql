-- All epochs of one partition of a feed are found together. Rows of old code, which knew no later epoch than the first,
-- are found by their key.
ALTER TABLE source ADD COLUMN feed BYTEA;
CREATE INDEX source_by_feed ON source(feed, partition);

DELETE FROM needed WHERE version='20261128900002';
ALTER TABLE counter ADD COLUMN due BIGINT;
CREATE INDEX counter_by_due ON counter(due);

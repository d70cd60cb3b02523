-- due: when a deleted account's data is destroyed and its events are to be erased, until that is done.
ALTER TABLE account ADD COLUMN due BIGINT;
CREATE INDEX account_by_due ON account (due);

-- due: the end of a transaction while it holds personal data that is not an account's: it is emptied then.
ALTER TABLE txn ADD COLUMN due BIGINT;
CREATE INDEX txn_by_due ON txn (due);

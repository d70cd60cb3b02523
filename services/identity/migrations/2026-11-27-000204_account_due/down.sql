DROP INDEX account_by_due;
ALTER TABLE account DROP COLUMN due;

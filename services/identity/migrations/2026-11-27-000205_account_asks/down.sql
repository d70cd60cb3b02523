DROP INDEX account_by_asks;
ALTER TABLE account DROP COLUMN asks;

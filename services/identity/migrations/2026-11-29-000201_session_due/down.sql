DROP INDEX session_by_due;
ALTER TABLE session DROP COLUMN due;

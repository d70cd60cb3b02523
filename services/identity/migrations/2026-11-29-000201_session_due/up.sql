-- due: when a session runs out, until it is let go of: from then on its holder's group has it no more. A row of older code has
-- none, and stays in the group until it is ended or older code lets go of it.
ALTER TABLE session ADD COLUMN due BIGINT;
CREATE INDEX IF NOT EXISTS session_by_due ON session (due) WHERE due IS NOT NULL;

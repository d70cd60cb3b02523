-- Set while nobody has reviewed what was opened in an emergency, and operators were not reminded of it.
ALTER TABLE consent ADD COLUMN review_due BIGINT;
CREATE INDEX consent_by_review_due ON consent (review_due);

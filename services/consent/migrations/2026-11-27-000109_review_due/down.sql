DROP INDEX consent_by_review_due;
ALTER TABLE consent DROP COLUMN review_due;

-- Most rows have no value in these columns, and both databases keep an index entry of nothing all the same: an approval wrote five
-- of them. Nothing that is looked up is NULL, so the indexes leave these rows out. On a large table make them by hand first, with
-- CONCURRENTLY on Postgres.
CREATE INDEX IF NOT EXISTS consent_live ON consent (partition, live) WHERE live IS NOT NULL;
CREATE INDEX IF NOT EXISTS consent_due ON consent (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS consent_review_due ON consent (review_due) WHERE review_due IS NOT NULL;
CREATE INDEX IF NOT EXISTS consent_study ON consent (study, id) WHERE study IS NOT NULL;
CREATE INDEX IF NOT EXISTS consent_request_open_pair ON consent_request (partition, open_pair) WHERE open_pair IS NOT NULL;
CREATE INDEX IF NOT EXISTS consent_request_due ON consent_request (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS consent_request_open_study ON consent_request (open_study, id) WHERE open_study IS NOT NULL;
CREATE INDEX IF NOT EXISTS notification_pending ON notification (partition, pending, position) WHERE pending IS NOT NULL;
-- The ones that they take the place of; and one by which nothing is looked up.
DROP INDEX consent_by_partition_live;
DROP INDEX consent_by_due;
DROP INDEX consent_by_review_due;
DROP INDEX consent_by_study_id;
DROP INDEX consent_request_by_partition_open_pair;
DROP INDEX consent_request_by_due;
DROP INDEX consent_request_by_open_study_id;
DROP INDEX notification_by_partition_pending_position;
DROP INDEX consent_by_partition_request;
-- Older code would find the same rows by the new ones. This is a contract by its form: any binary that knows these tables will do.
INSERT INTO needed(version) VALUES ('20261127000123');

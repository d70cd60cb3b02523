-- From which time on request ids are kept in the order of the times they were made at; NULL: none is. Old code, which does not
-- know it, keeps all in the order of a hash within their hour: it must be gone before a time is set.
ALTER TABLE database ADD COLUMN requests_from BIGINT;

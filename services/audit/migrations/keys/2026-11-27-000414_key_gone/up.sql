-- Keys of names of which one was destroyed: a log that was restored is told of them.
ALTER TABLE payload_key ADD COLUMN gone BYTEA;
CREATE INDEX payload_key_by_gone_id ON payload_key (gone, id);

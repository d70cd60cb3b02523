-- A recipient reads its notifications newest first, over all partitions.
CREATE INDEX notification_by_recipient_id ON notification (recipient, id);

-- asks: when audit is asked to erase the events of a deleted account whose data is destroyed, until it was. Before that stands
-- in due; a row of older code is in due alone until it is looked at.
ALTER TABLE account ADD COLUMN asks BIGINT;
CREATE INDEX account_by_asks ON account (asks);

DROP TABLE claim;
DROP TABLE request;
DROP TABLE feed;
DROP TABLE head;
DROP TABLE database;

DROP TABLE checkpoint;
DROP TABLE tile;
DROP TABLE subject;
DROP TABLE source;
DROP TABLE mention;
DROP TABLE leaf;
DROP TABLE log;

DROP TABLE needed;

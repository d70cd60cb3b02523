DROP TABLE succession;

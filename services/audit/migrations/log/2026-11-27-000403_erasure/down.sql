DROP TABLE legal_hold;
DROP TABLE erasure;

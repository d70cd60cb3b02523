DELETE FROM needed WHERE version = '20261127000413';
DROP TABLE legal_hold;
DROP TABLE erasure;

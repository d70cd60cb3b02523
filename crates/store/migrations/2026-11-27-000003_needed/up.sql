-- The migrations that a binary must know to serve this database: a contract names here what made its change possible.
-- All others that a binary does not know it may pass over.
CREATE TABLE needed (
    version TEXT NOT NULL PRIMARY KEY
);

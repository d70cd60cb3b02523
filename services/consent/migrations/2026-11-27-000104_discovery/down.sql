DROP TABLE discovery;
DROP TABLE profile_share;

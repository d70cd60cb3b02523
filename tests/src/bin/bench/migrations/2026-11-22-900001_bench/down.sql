DROP TABLE notification;
DROP TABLE artefact;
DROP TABLE given;
DROP TABLE asked;
DROP TABLE entry;

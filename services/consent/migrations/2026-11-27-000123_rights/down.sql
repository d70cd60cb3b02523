DROP TABLE rights_request;

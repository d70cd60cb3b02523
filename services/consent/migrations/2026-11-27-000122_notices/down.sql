DROP TABLE notice_texts;
DROP TABLE notice;

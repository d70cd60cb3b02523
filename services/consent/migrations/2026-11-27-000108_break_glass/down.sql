DROP TABLE glass_count;

DROP TABLE step_up;

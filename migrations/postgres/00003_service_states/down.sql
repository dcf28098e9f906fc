DROP TABLE service_states;

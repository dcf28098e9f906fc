DROP TABLE service_states_aside;

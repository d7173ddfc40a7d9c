"""Stage register: the networks and runs into MLflow."""

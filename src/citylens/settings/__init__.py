"""Settings: the schema of params.yaml, its parser and its profiles."""

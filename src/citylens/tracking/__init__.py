"""MLflow: runs, data sets, models and the registry."""

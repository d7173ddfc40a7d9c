"""Stage validate: data sets against their contracts."""

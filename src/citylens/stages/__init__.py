"""One module a DVC stage, in the order of the pipeline: read, compute, write, track."""

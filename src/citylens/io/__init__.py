"""Files, images, tables, processes: input and output that several stages share."""

"""Stage report: figures, tables and the page."""

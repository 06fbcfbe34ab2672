"""Open recordings of every format with MNE-Python, after checks of their headers."""

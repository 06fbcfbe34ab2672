"""Run ingest of many recordings: local processes, Dask, and the log of their progress."""

"""Fetch files of an archive: list, retry, resume, and identify their content."""

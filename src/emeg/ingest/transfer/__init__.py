"""Download files of an archive: retry, resume, verify their content."""

"""List an archive and decide which files form a recording: BIDS names, formats, file mappings."""

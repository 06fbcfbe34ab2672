"""The corpus: segments of recordings, split by subject, in tar shards with a manifest."""

"""Read batches of a corpus: range requests, prefetching, the shard cache, token sets."""

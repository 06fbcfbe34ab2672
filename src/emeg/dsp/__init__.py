"""The standardising kernel: mains detection, filter responses, filtering and resampling in one pass."""

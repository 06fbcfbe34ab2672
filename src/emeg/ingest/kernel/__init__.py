"""The standardising kernel: pass band, notches and resampling in one pass through the frequency domain."""

"""Quantizers: residual codebooks as running means of latents, with k-means and ranks, and scalar codes."""

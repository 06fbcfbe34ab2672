"""Residual vector quantization: codebooks as running means of latents, k-means, ranks."""

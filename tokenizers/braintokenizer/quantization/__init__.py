"""Residual vector quantization: codebooks that follow the latents, k-means, agreement between ranks."""

"""Maps between sensors and latent sources: attention over channels, and a learned linear leadfield."""

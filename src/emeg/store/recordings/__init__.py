"""Recordings as Zarr groups: signal, quantisation, quality measures."""

"""Sections of the pages: each module turns products into plain values and plots."""

"""Standardise the signal of a recording, judge its channels and measure its quality."""

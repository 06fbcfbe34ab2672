"""The version of emeg."""

__version__ = "0.1.0"

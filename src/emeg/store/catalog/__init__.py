"""The catalogue of a store: rows, events, quarantine, and queries in SQL."""

"""The sampling plan: which segments each training step reads."""

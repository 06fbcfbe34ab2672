"""A causal transformer over flattened tokens, which predicts the next token and continues recordings."""

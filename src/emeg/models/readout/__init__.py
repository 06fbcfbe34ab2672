"""Read-out of embeddings: pooling over time, and classification heads."""

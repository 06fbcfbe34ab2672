"""The training loop under Lightning: steps, checkpoints, strategies, monitoring, stopping."""

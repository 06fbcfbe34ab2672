"""Fine-tune a classifier or fit a probe on one fold of a task."""

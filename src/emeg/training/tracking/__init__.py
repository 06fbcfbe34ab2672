"""What shows how a training goes: loggers for TensorBoard, MLflow and Weights & Biases, and linear probes."""

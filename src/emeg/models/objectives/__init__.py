"""Objectives of pretraining: what an encoder predicts, and the loss of the prediction."""

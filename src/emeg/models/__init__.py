"""BrainOmni on a frozen tokenizer, heads for tasks, and weights of the reference release.

codes ──features_from_codes──▶ features ──pretraining_loss──▶ loss, accuracies        (stored tokens)
signal ──tokenizer──▶ features ──embed──▶ embedding ──TaskHead──▶ logits of a task
weights of the release ──import_reference──▶ config.json, model.safetensors ──from_pretrained──▶ BrainOmni

After arXiv 2505.18185. Names load on first use; importing this package does not import torch.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)

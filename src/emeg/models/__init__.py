"""BrainOmni over a frozen tokenizer, heads for tasks, and the reference release's weights.

codes ──features_from_codes──▶ features ──pretraining_loss──▶ loss, accuracies        (stored tokens)
signal ──tokenizer──▶ features ──embed──▶ embedding ──TaskHead──▶ logits of a task
release's weights ──import_reference──▶ config.json, model.safetensors ──from_pretrained──▶ BrainOmni

After arXiv 2505.18185. Names are loaded when first used, so that importing this package imports no torch.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)

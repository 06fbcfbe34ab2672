"""BrainOmni over a frozen tokenizer, heads for tasks, and the reference release's weights.

codes ──features_from_codes──▶ features ──pretraining_loss──▶ loss, accuracies        (stored tokens)
signal ──tokenizer──▶ features ──embed──▶ embedding ──TaskHead──▶ logits of a task
release's weights ──import_reference──▶ config.json, model.safetensors ──from_pretrained──▶ BrainOmni

After arXiv 2505.18185. Names are loaded when first used, so that importing this package imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from emeg.models.config import PRESETS, BrainOmniConfig

if TYPE_CHECKING:
    from emeg.models.brainomni import BrainOmni, PretrainingLosses
    from emeg.models.draws import PretrainingDraws, draw_pretraining_step
    from emeg.models.heads import TaskHead
    from emeg.models.hub import PushToHubConfig, PushToHubResult, push_to_hub
    from emeg.models.recipe import PretrainRecipe, parameter_groups
    from emeg.models.reference import ImportReferenceConfig, ImportReferenceResult, import_reference

__all__ = [
    "PRESETS",
    "BrainOmni",
    "BrainOmniConfig",
    "ImportReferenceConfig",
    "ImportReferenceResult",
    "PretrainRecipe",
    "PretrainingDraws",
    "PretrainingLosses",
    "PushToHubConfig",
    "PushToHubResult",
    "TaskHead",
    "draw_pretraining_step",
    "import_reference",
    "parameter_groups",
    "push_to_hub",
]

_HOME = {
    "brainomni": ("BrainOmni", "PretrainingLosses"),
    "draws": ("PretrainingDraws", "draw_pretraining_step"),
    "heads": ("TaskHead",),
    "hub": ("PushToHubConfig", "PushToHubResult", "push_to_hub"),
    "recipe": ("PretrainRecipe", "parameter_groups"),
    "reference": ("ImportReferenceConfig", "ImportReferenceResult", "import_reference"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

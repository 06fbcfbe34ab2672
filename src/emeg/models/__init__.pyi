from .brainomni import BrainOmni as BrainOmni, PretrainingLosses as PretrainingLosses
from .config import BrainOmniConfig as BrainOmniConfig, PRESETS as PRESETS
from .draws import PretrainingDraws as PretrainingDraws, draw_pretraining_step as draw_pretraining_step
from .heads import TaskHead as TaskHead
from .hub import PushToHubConfig as PushToHubConfig, PushToHubResult as PushToHubResult, push_to_hub as push_to_hub
from .parameters import parameter_groups as parameter_groups
from .reference_import import (
    ImportReferenceConfig as ImportReferenceConfig,
    ImportReferenceResult as ImportReferenceResult,
    import_reference as import_reference,
)

from .brainomni import BrainOmni as BrainOmni
from .building import load_encoder as load_encoder
from .encoder_module import EncoderModule as EncoderModule
from .interface import (
    Encoder as Encoder,
    Objective as Objective,
    PretrainingLosses as PretrainingLosses,
    Sources as Sources,
)
from .objectives.building import build_objective as build_objective
from .config import BrainOmniConfig as BrainOmniConfig, PRESETS as PRESETS
from .draws import PretrainingDraws as PretrainingDraws, draw_pretraining_step as draw_pretraining_step
from .readout.heads import HeadPooling as HeadPooling, TaskHead as TaskHead
from .readout.pooling import n_pooled as n_pooled, pool as pool, pooled_names as pooled_names
from .readout.kinds import POOLINGS as POOLINGS, Pooling as Pooling
from .parameters import parameter_groups as parameter_groups
from .reference_import import (
    ImportReferenceConfig as ImportReferenceConfig,
    ImportReferenceResult as ImportReferenceResult,
    import_reference as import_reference,
)

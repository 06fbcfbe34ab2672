from .configs import (
    FinetuneRecipe as FinetuneRecipe,
    OptimiserConfig as OptimiserConfig,
    PretrainConfig as PretrainConfig,
    TokenizeConfig as TokenizeConfig,
    TokenizeResult as TokenizeResult,
    TrainResult as TrainResult,
    TrainTokenizerConfig as TrainTokenizerConfig,
)
from .finetune.fold import (
    FoldIndices as FoldIndices,
    FoldOutcome as FoldOutcome,
    Windows as Windows,
    embed_task as embed_task,
    finetune_fold as finetune_fold,
    in_memory as in_memory,
)
from .loop.schedule import draw_seed as draw_seed, loss_ramp as loss_ramp, lr_factor as lr_factor
from .plan import PlanConfig as PlanConfig, PlanResult as PlanResult, plan_training as plan_training
from .stages.corpus_tokens import tokenize as tokenize
from .stages.pretraining import fit_pretraining as fit_pretraining
from .stages.tokenizer_training import fit_tokenizer as fit_tokenizer
from .verbs import pretrain as pretrain, train_tokenizer as train_tokenizer

from .classical.baselines import BASELINES as BASELINES, Baseline as Baseline, fit_baseline as fit_baseline
from .classical.logistic import Rows as Rows, Setting as Setting
from .configs import (
    EvaluateConfig as EvaluateConfig,
    EvaluateResult as EvaluateResult,
    FinetuneConfig as FinetuneConfig,
    FinetuneResult as FinetuneResult,
)
from .evaluate_model import evaluate as evaluate
from .finetune_folds import finetune as finetune
from .metrics import METRICS as METRICS, Score as Score, confusion as confusion, score as score
from .products import (
    EvaluationSummary as EvaluationSummary,
    read_arrays as read_arrays,
    read_summary as read_summary,
    read_predictions as read_predictions,
)
from .task import Task as Task, make_task as make_task, missing_task as missing_task, try_task as try_task
from .task_listing import TasksConfig as TasksConfig, TasksResult as TasksResult, list_tasks as list_tasks

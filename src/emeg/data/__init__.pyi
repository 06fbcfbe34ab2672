from .batch import Batch as Batch, Sample as Sample, StoredBatch as StoredBatch, collate as collate
from .corpus.corpus import Corpus as Corpus, Segment as Segment
from .corpus.sharding import ShardConfig as ShardConfig, ShardResult as ShardResult, shard as shard
from .corpus.split import split_subjects as split_subjects
from .reading.batch_reader import BatchReader as BatchReader, ShareReader as ShareReader
from .reading.cache import CacheConfig as CacheConfig, CacheResult as CacheResult, cache as cache
from .reading.loader import LoadedBatch as LoadedBatch, Loader as Loader
from .reading.shard_cache import ShardCache as ShardCache
from .reading.tokens import TokenSet as TokenSet, tokens_name as tokens_name, write_tokens as write_tokens
from .sampling.plan import (
    MicroBatch as MicroBatch,
    SamplingConfig as SamplingConfig,
    SamplingPlan as SamplingPlan,
    SamplingState as SamplingState,
    Share as Share,
    n_in_pairs as n_in_pairs,
    numbers_of as numbers_of,
)
from .tasks.definition import (
    TaskConfig as TaskConfig,
    infer_task as infer_task,
    single_task as single_task,
    why_not_single as why_not_single,
)
from .tasks.folds import Fold as Fold, SubjectFold as SubjectFold, Folds as Folds, subject_folds as subject_folds
from .tasks.windows import TaskWindows as TaskWindows, task_windows as task_windows
from .tasks.recipes import TaskRecipe as TaskRecipe, known_tasks as known_tasks, load_task as load_task

"""Measure read-outs of the tokenizer's own features, without a transformer, on the tasks of the study.

`python -m benchmarks.study.readouts FOLDER` prints one JSON line for each task: balanced accuracy over training and
validation subjects of a logistic regression on pooled code features, and on the classical features.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.study.pretraining import score, tasks_of
from benchmarks.study.variants import load
from numpy.typing import NDArray

from emeg.models.readout.pooling import pool
from emeg.tokenizers.braintokenizer import BrainTokenizer

POOLINGS = ("mean", "log_std", "mean_std", "power")
CLASSICAL = ("band_power", "tangent_space")


def pooled(tokenizer: BrainTokenizer, codes: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Return pooled code features of task windows by pooling."""
    parts: dict[str, list[NDArray[Any]]] = {key: [] for key in POOLINGS}
    with torch.inference_mode():
        for start in range(0, len(codes), 32):
            features = tokenizer.features_from_codes(torch.as_tensor(codes[start : start + 32]).long())
            for key in POOLINGS:
                parts[key].append(pool(features, key).numpy())
    return {key: np.concatenate(one) for key, one in parts.items()}


def main() -> None:
    """Print one line for each task."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    tokenizer = BrainTokenizer.from_pretrained(folder / "tokenizer")
    data = load(folder / "tok0")
    for title, (name, kept, labels, subjects) in tasks_of(data, ("train", "validation")).items():
        found = pooled(tokenizer, data[name]["task_codes"][kept])
        found |= {key: data[name][f"task_{key}"][kept] for key in CLASSICAL}
        scores = {key: round(float(np.mean(list(score(x, labels, subjects).values()))), 3) for key, x in found.items()}
        print(json.dumps({"task": title, "subjects": len(set(subjects)), **scores}), flush=True)


if __name__ == "__main__":
    main()

"""Judge pretrained networks on held-out subjects, with the classifier's penalty chosen on validation subjects.

`python -m benchmarks.study.final FOLDER VARIANT:RANDOM[,VARIANT:RANDOM…] VALIDATION HELD_OUT`: tasks are those of the
simulated subjects in FOLDER/VALIDATION and FOLDER/HELD_OUT, which `prepare` wrote, and the real ones in FOLDER/tok0.
Every competitor has the same search: C of its logistic regression, chosen for each task on training and validation
subjects. Each name is averaged over its seeds. Prints one JSON line for each task and appends it to FOLDER/final.jsonl.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.study.pretraining import GROUPED, score, tasks_of
from benchmarks.study.report import CLASSICAL, average, compare, embeddings, read_results
from benchmarks.study.variants import Data, load
from numpy.typing import NDArray

from emeg.tokenizers.braintokenizer import BrainTokenizer

INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Values of C that every competitor may choose from."""

Judged = dict[str, tuple[Data, str, NDArray[Any], NDArray[Any], NDArray[Any]]]
"""Task → data, dataset, windows, labels, subjects."""


def all_tasks(real: Data, simulated: Data, real_splits: tuple[str, ...]) -> Judged:
    """Return the tasks of real subjects in some splits and of all simulated subjects."""
    found: Judged = {}
    for title, own in tasks_of(simulated, ("train", "validation", "held_out")).items():
        found[title] = (simulated, *own)
    for title, own in tasks_of(real, real_splits).items():
        if own[0] not in GROUPED:
            found[title] = (real, *own)
    return found


def features_of(
    task: tuple[Data, str, NDArray[Any], NDArray[Any], NDArray[Any]],
    folder: Path,
    runs: dict[str, list[dict[str, Any]]],
    tokenizer: BrainTokenizer,
) -> dict[str, list[NDArray[Any]]]:
    """Return the features of the windows of a task by competitor: one array for each seed."""
    data, dataset, kept, _, _ = task
    codes = data[dataset]["task_codes"][kept]
    found: dict[str, list[NDArray[Any]]] = {
        name: list(embeddings(folder, own, codes, tokenizer)) for name, own in runs.items()
    }
    return found | {name: [data[dataset][f"task_{name}"][kept]] for name in CLASSICAL}


def choose(features: list[NDArray[Any]], labels: NDArray[Any], subjects: NDArray[Any]) -> float:
    """Return the C with the best mean over subjects and seeds."""

    def mean(penalty: float) -> float:
        scores = [score(x, labels, subjects, inverse_penalty=penalty) for x in features]
        return float(np.mean([list(one.values()) for one in scores]))

    return max(INVERSE_PENALTIES, key=mean)


def main() -> None:
    """Print one line for each task."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, pairs = Path(sys.argv[1]), [tuple(one.split(":")) for one in sys.argv[2].split(",")]
    results = read_results(folder)
    runs = {name: results[name] for pair in pairs for name in pair}
    tokenizer = BrainTokenizer.from_pretrained(folder / "tokenizer").requires_grad_(False)
    real = load(folder / "tok0")
    validation = all_tasks(real, load(folder / sys.argv[3]), ("train", "validation"))
    held_out = all_tasks(real, load(folder / sys.argv[4]), ("held_out",))
    for title, task in held_out.items():
        known, new = (features_of(one, folder, runs, tokenizer) for one in (validation[title], task))
        chosen = {name: choose(own, *validation[title][3:]) for name, own in known.items()}
        scores = {
            name: average([score(x, *task[3:], inverse_penalty=chosen[name]) for x in own]) for name, own in new.items()
        }
        line = {"task": title, "chosen": chosen, **compare(scores, [(one, other) for one, other in pairs])}
        print(json.dumps(line), flush=True)
        with (folder / "final.jsonl").open("a") as file:
            file.write(json.dumps(line | {"scores": scores}) + "\n")


if __name__ == "__main__":
    main()

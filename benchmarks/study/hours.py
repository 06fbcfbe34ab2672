"""Fit how pretraining compares with random weights and classical features against hours of recordings, task by task.

`python -m benchmarks.study.hours FOLDER LABELLED PICTURE VARIANT RANDOM`: all runs in FOLDER/results.jsonl whose name
is VARIANT or begins with VARIANT and a hyphen, and that have as many steps as VARIANT, are points. Their embeddings
are judged on the labelled windows in FOLDER/LABELLED, which `prepare` wrote, with all subjects of the training and
validation splits. A line in the logarithm of the hours is fitted to the gain over random weights and to the
difference from the better of two classical baselines. Its interval comes from a bootstrap over subjects and runs.
Prints one JSON line for each task and comparison.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from benchmarks.study.curves import draw, fit
from benchmarks.study.pretraining import score, tasks_of
from benchmarks.study.report import CLASSICAL, average, embeddings, read_results
from benchmarks.study.variants import load
from numpy.typing import NDArray

from emeg.tokenizers.braintokenizer import BrainTokenizer

SPLITS = ("train", "validation")
"""Splits of the labelled subjects that are judged; neither is used by a network."""
BEST = "best classical"


def judge(features: list[NDArray[Any]], labels: NDArray[Any], subjects: NDArray[Any]) -> list[dict[str, float]]:
    """Return the balanced accuracy of each subject, for each seed."""
    return [score(x, labels, subjects) for x in features]


def main() -> None:
    """Fit each task and draw all of them."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, labelled, picture, variant, base = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *sys.argv[4:6]
    results = read_results(folder)
    steps = results[variant][0]["variant"]["steps"]
    names = [
        name
        for name, runs in results.items()
        if (name == variant or name.startswith(f"{variant}-")) and runs[0]["variant"]["steps"] == steps
    ]
    tokenizer = BrainTokenizer.from_pretrained(folder / "tokenizer").requires_grad_(False)
    data = load(folder / labelled)
    plt.rcParams["svg.hashsalt"] = "study"
    figure, panels = plt.subplots(2, 4, figsize=(12, 5.6), layout="constrained", sharex=True, sharey="row")
    for column, (title, (dataset, kept, labels, subjects)) in enumerate(tasks_of(data, SPLITS).items()):
        codes = data[dataset]["task_codes"][kept]
        classical = {one: score(data[dataset][f"task_{one}"][kept], labels, subjects) for one in CLASSICAL}
        best = max(classical, key=lambda one: float(np.mean(list(classical[one].values()))))
        random = average(judge(embeddings(folder, results[base], codes, tokenizer), labels, subjects))
        runs = [
            (run["hours"], own)
            for name in names
            for run, own in zip(
                results[name], judge(embeddings(folder, results[name], codes, tokenizer), labels, subjects), strict=True
            )
        ]
        for row, (rival, scores) in enumerate({base: random, f"{BEST}: {best}": classical[best]}.items()):
            order = sorted(scores)
            differences = [[np.array([own[one] - scores[one] for one in order])] for _, own in runs]
            found = fit([hours for hours, _ in runs], differences)
            draw(panels[row, column], found)
            panels[row, column].set(title=title if row == 0 else "", xlabel="hours of recordings" if row else "")
            line = {
                "task": title,
                "subjects": len(order),
                "rival": rival,
                "score_of_rival": np.mean(list(scores.values())),
            }
            print(
                json.dumps(line | {k: v for k, v in found.items() if k not in ("grid", "line", "low", "high")}),
                flush=True,
            )
    panels[0, 0].set_ylabel("minus random weights")
    panels[1, 0].set_ylabel("minus best classical baseline")
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)


if __name__ == "__main__":
    main()

"""Compare pretrained models, random weights and classical baselines on subjects of one split, with label budgets.

`python -m benchmarks.study.report FOLDER SPLITS VARIANT:RANDOM[,VARIANT:RANDOM…] [BUDGETS [LABELLED]]`, e.g. `report .
held_out published:random 1,5,20,all`. LABELLED names the folder with the labelled windows, tok0 if it is not given.
Each name is averaged over the seeds in FOLDER/results.jsonl, each with a draw of labels of its own. The read-out of
each is the one that was best on training and validation subjects. Prints one JSON line for each task and budget and
appends it to FOLDER/report.jsonl.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.study.pretraining import embed, score, tasks_of
from benchmarks.study.variants import SlowNetwork, Variant, build, load
from numpy.typing import NDArray

from emeg.evaluation.comparisons import interval
from emeg.tokenizers.braintokenizer import BrainTokenizer

CLASSICAL = ("band_power", "tangent_space")


def read_results(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the results of all runs by variant."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (folder / "results.jsonl").read_text().splitlines():
        run = json.loads(line)
        found.setdefault(run["variant"]["name"], []).append(run)
    return found


def best_read_out(runs: Sequence[dict[str, Any]]) -> str:
    """Return the read-out with the best mean over tasks and seeds, on training and validation subjects."""
    keys = list(runs[0]["mean"])
    return max(keys, key=lambda key: float(np.mean([run["mean"][key] for run in runs])))


def average(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean over seeds for each subject."""
    return {subject: float(np.mean([one[subject] for one in scores])) for subject in scores[0]}


def embeddings(
    folder: Path, runs: Sequence[dict[str, Any]], codes: NDArray[np.uint8], tokenizer: BrainTokenizer
) -> list[NDArray[np.float32]]:
    """Return the pooled embedding of every seed of one variant."""
    key, found = best_read_out(runs), []
    for run in runs:
        variant = Variant.model_validate(run["variant"])
        network = SlowNetwork(variant, tokenizer) if variant.slow else build(variant, tokenizer)
        network.load_state_dict(torch.load(folder / "weights" / f"{variant.name}-{variant.seed}.pt"))
        found.append(embed(network, codes)[key])
    return found


def compare(scores: dict[str, dict[str, float]], pairs: Sequence[tuple[str, str]]) -> dict[str, str | int]:
    """Return means with intervals over subjects, and paired differences to random weights and to the best baseline."""
    subjects = sorted(scores[CLASSICAL[0]])
    line: dict[str, str | int] = {"subjects": len(subjects)}
    line |= {name: str(interval([own[one] for one in subjects])) for name, own in scores.items()}
    best = max(CLASSICAL, key=lambda name: np.mean(list(scores[name].values())))
    for name, random in pairs:
        for rival in (random, best):
            gains = [scores[name][one] - scores[rival][one] for one in subjects]
            line[f"{name} - {rival}"] = str(interval(gains))
    return line


def main() -> None:
    """Print one line for each task and budget."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, splits = Path(sys.argv[1]), tuple(sys.argv[2].split(","))
    pairs = [(one.split(":")[0], one.split(":")[1]) for one in sys.argv[3].split(",")]
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    asked = sys.argv[4].split(",") if len(sys.argv) > 4 else ["1", "5", "20", "all"]
    budgets = [None if one == "all" else int(one) for one in asked]
    results = read_results(folder)
    tokenizer = BrainTokenizer.from_pretrained(folder / "tokenizer").requires_grad_(False)
    data = load(folder / (sys.argv[5] if len(sys.argv) > 5 else "tok0"))
    pooled: dict[str, dict[str, list[NDArray[Any]]]] = {}
    for title, (name, kept, labels, subjects) in tasks_of(data, splits).items():
        if name not in pooled:
            codes = data[name]["task_codes"][kept]
            pooled[name] = {one: embeddings(folder, results[one], codes, tokenizer) for one in names}
            pooled[name] |= {one: [data[name][f"task_{one}"][kept]] for one in CLASSICAL}
        for budget in budgets:
            scores = {
                one: average([score(x, labels, subjects, budget=budget, seed=i) for i, x in enumerate(features)])
                for one, features in pooled[name].items()
            }
            line = {"task": title, "budget": budget or "all", "splits": splits, **compare(scores, pairs)}
            print(json.dumps(line), flush=True)
            with (folder / "report.jsonl").open("a") as file:
                file.write(json.dumps(line | {"scores": scores}) + "\n")


if __name__ == "__main__":
    main()

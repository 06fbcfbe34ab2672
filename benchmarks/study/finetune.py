"""Fine-tune pretrained and random weights on the tasks of the study and compare them on subjects of one split.

`python -m benchmarks.study.finetune FOLDER SPLITS VARIANT RANDOM [BUDGETS [LABELLED]]`: both names are variants with
`slow`. All weights of the transformer and a linear head on its pooled embedding are trained, with one subject left out
at a time (six groups of subjects where there are more than ten). With LABELLED, the simulated subjects are all those
of that folder; without it, those of tok0. Prints one JSON line for each task and label budget.

Shape letters: B batch, S latent sources, W windows, D features, Q levels.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.study.final import all_tasks
from benchmarks.study.pretraining import few, folds_of, tasks_of
from benchmarks.study.report import average, read_results
from benchmarks.study.variants import SlowNetwork, Variant, load
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from emeg.evaluation.comparisons import interval
from emeg.metrics import balanced_accuracy
from emeg.tokenizers.braintokenizer import BrainTokenizer

STEPS, BATCH = 30, 32
LEARNING_RATE, HEAD_RATE, WEIGHT_DECAY = 3e-4, 1e-2, 0.05


def restore(folder: Path, run: dict[str, Any], tokenizer: BrainTokenizer) -> SlowNetwork:
    """Build the network of a run with its weights."""
    variant = Variant.model_validate(run["variant"])
    network = SlowNetwork(variant, tokenizer)
    network.load_state_dict(torch.load(folder / "weights" / f"{variant.name}-{variant.seed}.pt"))
    return network


def fit(network: SlowNetwork, tokens_BSWD: Tensor, labels: Tensor, weights: Tensor, seed: int) -> nn.Linear:
    """Train network and head, and return the head."""
    torch.manual_seed(seed)
    head = nn.Linear(tokens_BSWD.shape[1] * network.variant.dim, int(labels.max()) + 1)
    nn.init.zeros_(head.weight)
    inner = [one for name, one in network.named_parameters() if not name.startswith("tokenizer") and one.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": inner, "lr": LEARNING_RATE}, {"params": head.parameters(), "lr": HEAD_RATE}],
        weight_decay=WEIGHT_DECAY,
    )
    network.train()
    network.tokenizer.eval()
    for _ in range(STEPS):
        chosen = torch.randint(len(labels), (min(BATCH, len(labels)),))
        pooled = F.normalize(network.run(tokens_BSWD[chosen]), dim=-1).mean(2).flatten(1)
        loss = F.cross_entropy(head(pooled), labels[chosen], weight=weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    return head


def score(
    folder: Path,
    run: dict[str, Any],
    tokenizer: BrainTokenizer,
    codes_BSTQ: NDArray[np.uint8],
    labels: NDArray[Any],
    subjects: NDArray[Any],
    budget: int | None,
) -> dict[str, float]:
    """Return the balanced accuracy of each subject."""
    with torch.inference_mode():
        network = restore(folder, run, tokenizer)
        parts = [network.tokens(torch.as_tensor(codes_BSTQ[i : i + 32]).long()) for i in range(0, len(labels), 32)]
    tokens, seed = torch.cat(parts).clone(), int(run["variant"]["seed"])
    rng, predicted = np.random.default_rng(seed), np.full(len(labels), -1)
    for fold in folds_of(subjects):
        test = np.isin(subjects, fold)
        train = np.flatnonzero(~test)
        train = train[few(labels[train], subjects[train], budget, rng)]
        network = restore(folder, run, tokenizer)
        wanted = torch.as_tensor(labels[train]).long()
        counts = torch.bincount(wanted).clamp(min=1).float()
        head = fit(network, tokens[train], wanted, counts.mean() / counts, seed)
        with torch.inference_mode():
            pooled = F.normalize(network.run(tokens[test]), dim=-1).mean(2).flatten(1)
            predicted[test] = head(pooled).argmax(1).numpy()
    return {
        one: float(balanced_accuracy(labels[subjects == one], predicted[subjects == one]))
        for one in np.unique(subjects)
    }


def main() -> None:
    """Print one line for each task and budget."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, splits, names = Path(sys.argv[1]), tuple(sys.argv[2].split(",")), sys.argv[3:5]
    asked = sys.argv[5].split(",") if len(sys.argv) > 5 else ["all"]
    results = read_results(folder)
    tokenizer = BrainTokenizer.from_pretrained(folder / "tokenizer").requires_grad_(False)
    real = load(folder / "tok0")
    simulated = load(folder / sys.argv[6]) if len(sys.argv) > 6 else None
    if simulated is None:
        tasks = {title: (real, *own) for title, own in tasks_of(real, splits).items()}
    else:
        tasks = all_tasks(real, simulated, splits)
    for title, (data, dataset, kept, labels, subjects) in tasks.items():
        codes = data[dataset]["task_codes"][kept]
        for budget in (None if one == "all" else int(one) for one in asked):
            found = {
                name: average([score(folder, run, tokenizer, codes, labels, subjects, budget) for run in results[name]])
                for name in names
            }
            order = sorted(found[names[0]])
            gain = interval([found[names[0]][one] - found[names[1]][one] for one in order])
            line = {name: str(interval([own[one] for one in order])) for name, own in found.items()}
            line |= {"task": title, "budget": budget or "all", "splits": splits, "gain": str(gain), "scores": found}
            print(json.dumps({key: value for key, value in line.items() if key != "scores"}), flush=True)
            with (folder / "finetuned.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()

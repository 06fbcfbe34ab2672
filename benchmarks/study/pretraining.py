"""Pretrain one variant on the tokens of `prepare` and measure its frozen embedding on six tasks.

`python -m benchmarks.study.pretraining FOLDER '{"name": "power", "power": 1.0}'` appends one line to
FOLDER/results.jsonl and writes the weights to FOLDER/weights/. Variants are described in `variants.py`, the question
in docs/explanation/study.md. Accuracies are those of training and validation subjects, which take turns as test
subjects.

Shape letters: B batch, S latent sources, T latent steps, D features, Q levels.
"""

import json
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.study.variants import Data, Pretraining, SlowNetwork, SlowPretraining, Variant, load, read_out
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from emeg.metrics import balanced_accuracy
from emeg.models import BrainOmni
from emeg.tokenizers.braintokenizer import BrainTokenizer

GROUPED = {"joint-synth": "", "demo-archive": "64", "new-standard19": "", "new-biosemi64": "64"}
"""Simulated datasets with the suffix of their tasks. Their subjects also have a group: every second one is slowed."""
MOST_FOLDS = 10
"""With more subjects, six groups of subjects take turns instead of single subjects."""
INVERSE_PENALTY = 0.01
"""C of the logistic regression."""
REPORT_EVERY = 100
WEIGHT_DECAY, WARM_UP, FLOOR = 0.05, 0.1, 0.1


def fit(model: Pretraining | SlowPretraining) -> dict[str, float]:
    """Train and return the mean of each term over the last steps."""
    variant, parameters = model.variant, model.own_parameters()
    optimiser = torch.optim.AdamW(
        parameters, lr=variant.learning_rate, betas=(0.9, 0.95), eps=1e-6, weight_decay=WEIGHT_DECAY
    )
    warm = max(1, round(WARM_UP * variant.steps))

    def rate(step: int) -> float:
        if step < warm:
            return FLOOR + (1 - FLOOR) * step / warm
        return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, variant.steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    model.train()
    model.network.tokenizer.eval()
    history: list[dict[str, float]] = []
    for _ in range(variant.steps):
        loss, terms = model.step()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        history.append(terms)
        if len(history) % REPORT_EVERY == 0:
            recent = {key: round(float(np.mean([one[key] for one in history[-50:]])), 3) for key in terms}
            print(variant.name, len(history), recent, flush=True)
    last = history[-50:]
    return {key: float(np.mean([one[key] for one in last])) for key in last[0]} if last else {}


def embed(network: BrainOmni | SlowNetwork, codes_BSTQ: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Return the pooled embeddings of task windows by read-out."""
    network.eval()
    parts: list[dict[str, Any]] = []
    with torch.inference_mode():
        for start in range(0, len(codes_BSTQ), 32):
            codes = torch.as_tensor(codes_BSTQ[start : start + 32]).long()
            if isinstance(network, SlowNetwork):
                parts.append(network.embed_codes(codes))
            else:
                parts.append(read_out(network.embed_latents(network.tokenizer.features_from_codes(codes))))
    return {key: torch.cat([one[key] for one in parts]).numpy() for key in parts[0]}


def tasks_of(data: Data, kinds: tuple[str, ...]) -> dict[str, tuple[str, NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Return each task: its dataset, the windows of subjects of these splits, their labels and their subjects."""
    found = {}
    for name, own in data.items():
        if "task" not in own:
            continue
        split = dict(str(line).split("\t") for line in own["split_of"])
        kept = np.flatnonzero(np.isin([split[one] for one in own["task_subject"]], kinds))
        subjects = own["task_subject"][kept]
        suffix = GROUPED.get(name, "")
        title = f"imagery{suffix}" if name in GROUPED else name
        found[title] = (name, kept, own["task_label"][kept], subjects)
        if name in GROUPED:
            group = np.array([int(one.split("sub-")[1]) % 2 for one in subjects])
            found[f"group{suffix}"] = (name, kept, group, subjects)
    return found


def folds_of(subjects: NDArray[Any]) -> list[list[str]]:
    """Return the test subjects of each fold."""
    names = sorted(set(subjects))
    return [[one] for one in names] if len(names) <= MOST_FOLDS else [names[i::6] for i in range(6)]


def few(
    labels: NDArray[Any], subjects: NDArray[Any], budget: int | None, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the windows that a label budget leaves: at most so many for each class and subject."""
    if budget is None:
        return np.arange(len(labels))
    kept = []
    for subject in np.unique(subjects):
        for label in np.unique(labels):
            own = np.flatnonzero((subjects == subject) & (labels == label))
            kept += rng.permutation(own)[:budget].tolist()
    return np.array(sorted(kept))


def score(
    features: NDArray[Any],
    labels: NDArray[Any],
    subjects: NDArray[Any],
    *,
    budget: int | None = None,
    seed: int = 0,
    inverse_penalty: float = INVERSE_PENALTY,
) -> dict[str, float]:
    """Return the balanced accuracy of each subject; the share of right windows if a subject has one class only."""
    predicted = np.full(len(labels), -1)
    rng = np.random.default_rng(seed)
    for fold in folds_of(subjects):
        test = np.isin(subjects, fold)
        train = np.flatnonzero(~test)
        train = train[few(labels[train], subjects[train], budget, rng)]
        scale = StandardScaler().fit(features[train])
        classifier = LogisticRegression(C=inverse_penalty, class_weight="balanced", max_iter=150)
        classifier.fit(scale.transform(features[train]), labels[train])
        predicted[test] = classifier.predict(scale.transform(features[test]))
    return {
        one: float(balanced_accuracy(labels[subjects == one], predicted[subjects == one]))
        for one in np.unique(subjects)
    }


def evaluate(network: BrainOmni | SlowNetwork, data: Data) -> dict[str, dict[str, dict[str, float]]]:
    """Return task → read-out → subject → balanced accuracy, over training and validation subjects."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    pooled: dict[str, dict[str, NDArray[np.float32]]] = {}
    for title, (name, kept, labels, subjects) in tasks_of(data, ("train", "validation")).items():
        if name not in pooled:
            pooled[name] = embed(network, data[name]["task_codes"][kept])
        out[title] = {key: score(values, labels, subjects) for key, values in pooled[name].items()}
    return out


def main() -> None:
    """Run one variant."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, began = Path(sys.argv[1]), time.process_time()
    variant = Variant.model_validate_json(sys.argv[2])
    tokenizer = BrainTokenizer.from_pretrained(folder / variant.tokenizer).requires_grad_(False)
    data = load(folder / variant.tokens)
    if variant.extra_parts:
        data |= {
            f"extra-{key}": value for key, value in list(load(folder / variant.extra).items())[: variant.extra_parts]
        }
    model = (SlowPretraining if variant.slow else Pretraining)(variant, tokenizer, data)
    terms = fit(model)
    (folder / "weights").mkdir(exist_ok=True)
    torch.save(model.network.state_dict(), folder / "weights" / f"{variant.name}-{variant.seed}.pt")
    trained = time.process_time() - began
    by_task = evaluate(model.network, data)
    means = {
        task: {key: float(np.mean(list(one.values()))) for key, one in scores.items()}
        for task, scores in by_task.items()
    }
    mean = {key: float(np.mean([one[key] for one in means.values()])) for key in next(iter(means.values()))}
    hours = sum(len(rows) for rows in model.rows.values()) * 10 / 3600
    line = {
        "variant": variant.model_dump(),
        "terms": terms,
        "mean": mean,
        "means": means,
        "by_subject": by_task,
        "hours": hours,
        "train_cpu_s": trained,
        "cpu_s": time.process_time() - began,
    }
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(
        variant.name,
        variant.seed,
        {k: round(v, 3) for k, v in terms.items()},
        {k: round(v, 3) for k, v in mean.items()},
        {t: {k: round(v, 3) for k, v in o.items()} for t, o in means.items()},
        f"{trained:.0f}/{line['cpu_s']:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()

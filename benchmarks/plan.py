"""Count what an epoch of 2,600 hours reads from a bucket on 1, 8 and 64 ranks, and measure the time to plan it.

936,000 segments of 10 s with 19, 64, 128 or 306 channels, 64 micro-batches in a step, shards of 256 MiB. Only the
tables exist, no signal. `requests_per_1000` is the largest number of requests for 1,000 samples; `amplification` is
bytes read divided by bytes used; `held_gib` is the memory that a rank holds.
"""

import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emeg.data.reading.prefetch import MAX_GAP_REMOTE, plan_reads
from emeg.data.sampling.plan import SamplingConfig, SamplingPlan

N = 936_000


class Tables:
    """Synthetic corpus with the columns that planning reads."""

    name, sfreq, n_samples = "tables", 256.0, 2560

    def __init__(self) -> None:
        channels = np.sort(np.random.default_rng(0).choice([19, 64, 128, 306], N))
        n_bytes = channels * 5120
        size = n_bytes + 3072
        offset = np.cumsum(size) - size
        texts = {name: np.full(N, value) for name, value in (("split", "train"), ("dataset", "d"), ("modality", "eeg"))}
        numbers = {"channels": channels, "bytes": n_bytes, "step_bytes": channels * 4, "offset": offset}
        self._columns = texts | numbers | {"step_offset": offset + n_bytes + 700}
        self._shards = np.unique(offset // (256 * 2**20), return_inverse=True)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column."""
        return self._columns[name]

    def codes(self, name: str) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
        """Return the names of the shards and the index of each segment's shard."""
        return self._shards[0].astype(str), self._shards[1]


def main() -> None:
    """Measure, and print the result as one JSON object."""
    tables = Tables()
    began = time.perf_counter()
    plan = SamplingPlan(tables, SamplingConfig(budget_channel_seconds=20_480, micro_batches=64))
    plan.micro_batches(0, 0)
    figures: dict[str, float] = {"seconds_order": time.perf_counter() - began}
    for n_ranks in (1, 8, 64):
        began = time.perf_counter()
        share = plan.share(0, rank=n_ranks - 1, n_ranks=n_ranks)
        runs = plan_reads(tables, share, max_gap=MAX_GAP_REMOTE)  # type: ignore[arg-type]
        figures |= {
            f"seconds_{n_ranks}": time.perf_counter() - began,
            f"requests_per_1000_{n_ranks}": 1000 * len(runs.ranges) / len(share.segments),
            f"amplification_{n_ranks}": runs.n_bytes / int(tables.column("bytes")[share.segments].sum()),
            f"held_gib_{n_ranks}": runs.held_bytes() / 2**30,
        }
    worst = max(value for name, value in figures.items() if name.startswith("requests"))
    rounded = {name: round(value, 3) for name, value in figures.items()}
    print(json.dumps({"benchmark": "plan", "requests_per_1000": round(worst, 1)} | rounded))


if __name__ == "__main__":
    main()

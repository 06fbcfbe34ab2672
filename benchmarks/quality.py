"""Measure the cost of the quality measures: CPU time of an ingest with them, divided by that without them.

64 and 306 channels, 10 minutes, 1 kHz, noise with a falling spectrum in 16-bit FIF, mains frequency stated. Both
figures come from the same run, in one process and thread. The time for constant stretches and mains of the source,
for the measures of the segments and for their judgement is counted separately, and `ratio` is the total divided by
the rest: the median over rounds, for the size with the larger one. Two separate runs, one with and one without the
measures, differ by more than the measures cost, because of page faults and of other programs that use the caches.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from benchmarks.memory import write_archive
from threadpoolctl import threadpool_limits

from emeg.ingest import IngestConfig, ingest_recording, list_sources, standardising

SIZES, HOURS, ROUNDS = {64: "biosemi64", 306: "vectorview306"}, 1.0 / 6.0, 3
COUNTED = ((standardising.SourceLook, "look"), (standardising, "measure"), (standardising, "bad_segments"))


@contextmanager
def counted(spent: list[float]) -> Iterator[None]:
    """Append the CPU seconds of each call of a quality measure to `spent`."""

    def clocked(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            began = time.process_time()
            result = function(*arguments, **named)
            spent.append(time.process_time() - began)
            return result

        return call

    with ExitStack() as stack:
        for home, name in COUNTED:
            stack.enter_context(patch.object(home, name, clocked(getattr(home, name))))
        yield


def compare(channels: int, folder: Path) -> dict[str, float]:
    """Measure the ratio for one number of channels."""
    write_archive(folder / f"archive{channels}", HOURS, SIZES[channels])
    ratios, seconds = [], []
    for turn in range(ROUNDS):
        config = IngestConfig(
            archive=str(folder / f"archive{channels}"), root=str(folder / f"{channels}-{turn}"), workers=1
        )
        (source,) = list_sources(config)
        spent: list[float] = []
        with counted(spent):
            began = time.process_time()
            outcome = ingest_recording(source, config)
            whole = time.process_time() - began
        assert outcome.state == "ready", outcome.reason
        ratios.append(whole / (whole - sum(spent)))
        seconds.append(sum(spent))
    return {
        f"ratio_{channels}": round(statistics.median(ratios), 3),
        f"measures_cpu_s_{channels}": round(statistics.median(seconds), 3),
    }


def main() -> None:
    """Measure, and print the result as one JSON object."""
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        figures = {key: value for channels in SIZES for key, value in compare(channels, Path(name)).items()}
    ratio = max(figures[f"ratio_{channels}"] for channels in SIZES)
    print(json.dumps({"ratio": ratio, **figures, "minutes": 60 * HOURS, "sfreq": 1000.0, "rounds": ROUNDS}))


if __name__ == "__main__":
    main()

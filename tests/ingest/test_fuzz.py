"""A seeded sample of the damaged files of `benchmarks.fuzz`: ready, or refused with file and cause."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from benchmarks.fuzz import KINDS, mutated, unexplained

from emeg.ingest import IngestConfig, ingest_recording, list_sources
from emeg.ingest.readers.header_matlab import DamagedError, check_matlab

MET = [(7, "set", n) for n in (83, 93, 225)] + [(7, "fif", n) for n in (110, 150, 170, 417, 479)] + [(7, "vhdr", 404)]
"""Files that ended the process, or raised what nobody caught, before the checks that they led to."""


@pytest.mark.parametrize(("seed", "kind", "number"), [*((1, kind, n) for kind in KINDS for n in range(8)), *MET])
def test_a_damaged_file_is_ready_or_refused_with_file_and_cause(
    seed: int, kind: str, number: int, tmp_path: Path
) -> None:
    path = mutated(kind, number, tmp_path / "archive", seed=seed)
    config = IngestConfig(archive=str(path.parent), root=str(tmp_path / "store"), workers=0)
    [source] = list_sources(config)
    outcome = ingest_recording(source, config)
    assert outcome.state == "ready" or not unexplained(outcome.reason, path.name)


def test_the_same_number_is_the_same_file(tmp_path: Path) -> None:
    one, other = (mutated("edf", 3, tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other != mutated("edf", 4, tmp_path / "third").read_bytes()


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes_holds_together_and_no_damaged_length_does(*, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "all.mat"
    cells = np.array([1.0, "für", np.empty((0, 0)), {"a": np.arange(3, dtype=np.int8)}], dtype=object)
    everything = {"n": np.eye(3, dtype=np.float32), "z": np.array([1 + 2j]), "c": cells, "s": {"x": [1, 2], "y": "t"}}
    scipy.io.savemat(path, everything, do_compression=compressed)
    check_matlab(path)
    whole = path.read_bytes()
    for cut in (4, 100, len(whole) // 2):
        path.write_bytes(whole[:-cut])
        with pytest.raises(DamagedError):
            check_matlab(path)

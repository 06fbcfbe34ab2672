"""The tests mirror the package: `tests/store/test_claims.py` tests `src/emeg/store/claims.py`."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"

WHOLE_ROOMS = {
    "evaluation/test_verbs.py": "finetune and evaluate on one store",
    "export/test_bids.py": "the exported dataset as the public validator and MNE-BIDS read it",
    "export/test_stretches.py": "interruptions of recordings through an export",
    "inference/test_readme.py": "the Python example of the README",
    "ingest/readers/test_curry.py": "Curry files and the package that reads them",
    "ingest/tables/test_event_sources.py": "events of every format, counted by another parse",
    "ingest/tables/test_mutated_tables.py": "damaged sidecars of every kind",
    "ingest/test_devices.py": "real recordings of every device",
    "ingest/test_faults.py": "the corpus of faults",
    "ingest/test_faulty_connection.py": "ingest through a faulty connection",
    "ingest/test_field.py": "archives with the symptoms of public bug reports",
    "ingest/test_fuzz.py": "damaged files of every format",
    "ingest/test_incremental.py": "a second ingest of one archive",
    "ingest/test_pyprep.py": "bad channels against pyprep",
    "models/test_parity.py": "numbers of the reference release",
    "registry/test_registry.py": "entries and lookup",
    "reports/test_privacy.py": "no name or date in any product",
    "reports/test_quality.py": "the quality page",
    "sensors/test_devices.py": "sensors of real recordings",
    "store/test_bucket_connection.py": "a bucket that does not answer",
    "tokenizers/test_conformance.py": "what a tokenizer of another package may return",
    "tokenizers/test_kernels.py": "learned tokens of single samples",
    "tokenizers/test_mulaw.py": "tokens of single samples",
    "tokenizers/test_options.py": "options of the tokenizer beyond the release",
    "tokenizers/test_quantizer_study.py": "the study of quantizers, in its tiny form",
    "tokenizers/test_padding.py": "padded channels change nothing",
    "tokenizers/test_parity.py": "numbers of the reference release",
    "training/test_added_encoder.py": "an encoder and an objective of another package",
    "training/test_added_tokenizer.py": "a tokenizer of another package in every verb",
    "training/loop/test_monitor.py": "metrics of a run",
    "training/test_device_costs.py": "kernels and waits of a step on a GPU",
    "training/test_gpu_benchmark.py": "the benchmark for one GPU, in its tiny form",
    "training/test_step_costs.py": "operations of a step",
}
"""Tests of several modules of a room, with what they test."""


def unmirrored() -> Iterator[str]:
    for path in sorted(TESTS.rglob("test_*.py")):
        relative = path.relative_to(TESTS)
        if len(relative.parts) == 1 or relative.parts[0] == "integration":
            continue
        room, *folders = relative.parts[:-1]
        base = {"tokenizers": ROOT / "tokenizers/braintokenizer", "flows": ROOT / "flows"}.get(
            room, ROOT / "src/emeg" / room
        )
        if not base.joinpath(*folders, path.name.removeprefix("test_")).exists():
            yield relative.as_posix()


def test_every_test_lies_where_its_module_does():
    assert set(unmirrored()) == set(WHOLE_ROOMS)

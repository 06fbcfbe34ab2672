"""Archives with the symptoms of public bug reports, each against the correct result by `benchmarks.field`."""

from pathlib import Path

import pytest
from benchmarks import field


@pytest.mark.parametrize("name", field.CHECKS)
def test_a_reported_symptom_has_the_correct_result(
    name: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (shared / "cases/ingest" / name).is_dir():
        pytest.skip(f"no case {name} beside the checkout")
    monkeypatch.setattr(field, "CASES", shared / "cases/ingest")
    assert field.examined(name, field.CHECKS[name], tmp_path / "store") == []

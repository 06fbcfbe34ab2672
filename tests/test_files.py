"""A file has its former content or the new one, never a part of it."""

import json
import re
from pathlib import Path

import pytest

from emeg.files import json_bytes, replacing

SOURCES = Path(__file__).parents[1] / "src" / "emeg"


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with replacing(target) as file:
        file.write(b"first")
        assert not target.exists()
    with replacing(target) as file:
        file.write(b"second")
        assert target.read_bytes() == b"first"
    assert target.read_bytes() == b"second"
    assert [path.name for path in target.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("named", [True, False])
def test_an_error_leaves_the_former_file_alone(tmp_path: Path, named: bool) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"first")
    temporary = tmp_path / "unfinished" if named else None

    def interrupted() -> None:
        with replacing(target, temporary=temporary) as file:
            file.write(b"sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_equal_values_are_equal_bytes() -> None:
    one, other = {"b": [1, 2.5], "a": "ä"}, {"a": "ä", "b": [1, 2.5]}
    assert json_bytes(one) == json_bytes(other) == b'{\n "a": "\xc3\xa4",\n "b": [\n  1,\n  2.5\n ]\n}\n'
    assert json.loads(json_bytes(one)) == one
    with pytest.raises(ValueError, match="JSON"):
        json_bytes(float("nan"))


def test_no_module_writes_files_atomically_by_itself() -> None:
    """Flushing and renaming happen in `emeg.files` only; doctor measures the speed of flushing."""
    found = {
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if re.search(r"os\.fsync\(|mkstemp\(|os\.replace\(", path.read_text("utf-8"))
    }
    assert found == {"files.py", "doctor.py"}

"""Tables written to and read from Parquet, and memory pools after reading."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from emeg.store.catalog.parquet import parquet_bytes, table_of


def test_a_table_comes_back():
    kinds = pa.array(["eeg", "meg", "eeg"]).dictionary_encode()
    table = pa.table({"x": [1, 2, 3], "kind": kinds, "names": [["a"], [], None]})
    assert table_of(parquet_bytes(table)).equals(table)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in Linux's /proc")
def test_reading_starts_no_thread_that_could_outlive_the_interpreter(tmp_path: Path):
    """A thread that still holds Python's bytes at the end of the process aborts it."""
    file = tmp_path / "table.parquet"
    file.write_bytes(parquet_bytes(pa.table({"x": list(range(1000)), "y": ["a"] * 1000})))
    code = f"""
import os, pathlib
import pyarrow.parquet
from emeg.store.catalog.parquet import table_of
data = pathlib.Path({str(file)!r}).read_bytes()
before = set(os.listdir("/proc/self/task"))
assert table_of(data).num_rows == 1000
print(len(set(os.listdir("/proc/self/task")) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"

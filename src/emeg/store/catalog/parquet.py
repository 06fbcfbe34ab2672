"""Parquet as bytes, to and from tables."""

import io

import pyarrow as pa
import pyarrow.parquet as pq


def parquet_bytes(table: pa.Table) -> bytes:
    """Write a table as Parquet; equal tables are equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def table_of(data: bytes) -> pa.Table:
    """Read a whole Parquet file, in this thread alone.

    `pyarrow.parquet.read_table` leaves the last reference to Python's bytes to a thread of Arrow's pool, even with
    ``use_threads=False``. If the interpreter ends at that moment, the process aborts (``terminate called without an
    active exception``; apache/arrow issues 34314, 45017): a verb would print the right result and end with a wrong exit
    code.
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)

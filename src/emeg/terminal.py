"""Show progress of a verb on standard error, and its result on standard output."""

import logging
import os
import sys
from types import TracebackType
from typing import Self

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class ConsoleHandler(logging.Handler):
    """Log lines above the bar, unbroken, so that they can be searched and cut."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self._console.print(self.format(record), soft_wrap=True, markup=False, highlight=False)


class TerminalProgress:
    """Show a progress bar in a terminal, else a line for each tenth of the work."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.fields[verb]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._said = -1

    def __enter__(self) -> Self:
        handler = ConsoleHandler(self._console)
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%X", handlers=[handler])
        logging.getLogger("emeg").setLevel(logging.INFO)
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, done: int, total: int, message: str) -> None:
        """Move the bar, or write a line at each tenth."""
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._bars.add_task(message, total=total, verb=self._verb)
            self._bars.update(self._task, completed=done, total=total, description=message)
            return
        tenth = 10 * done // max(total, 1)
        if tenth != self._said:
            self._said = tenth
            sys.stderr.write(f"{self._verb}: {done}/{total} {message}\n")
            sys.stderr.flush()


def show_result(result: object) -> None:
    """Write the fields of a result, one a line, to standard output; a path comes last and alone, ready to be opened.

    A result with a method ``as_text`` is written by that method.
    """
    as_text = getattr(result, "as_text", None)
    if as_text is not None:
        sys.stdout.write(f"{as_text()}\n")
        return
    if not isinstance(result, BaseModel):
        sys.stdout.write(f"{result}\n")
        return
    fields = result.model_dump(mode="json")
    path = fields.pop("path", None)
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        sys.stdout.write(f"{name:<{width}}  {_short(value)}\n")
    if path is not None:
        sys.stdout.write(f"{path}\n")


def _short(value: object) -> str:
    if isinstance(value, list) and len(value) > 4:
        return f"{len(value)}: {', '.join(map(str, value[:3]))}, …"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(entry)}" for key, entry in value.items()) or "-"
    return str(value)


def discard_output() -> None:
    """Discard what this process writes to standard output and error from now on, because its reader is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)

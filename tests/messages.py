"""Check the class, the names and the next action of an error's message, independent of its wording."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

VERBS = (
    r"add|apply|ask|call|check|choose|close|compare|convert|copy|correct|create|cut|define|delete|divide|download|drop|end|"
    r"exclude|export|extract|fetch|fit|free|give|increase|ingest|inspect|install|interpolate|keep|leave|let|load|look|lower|"
    r"make|mark|measure|merge|mount|move|multiply|name|narrow|obtain|omit|open|pass|pick|place|publish|put|raise|read|reduce|"
    r"register|remove|rename|repair|repeat|resample|restore|resume|rerun|retry|run|save|see|select|send|set|shard|shorten|"
    r"show|split|standardise|start|state|stop|store|submit|take|tokenize|train|try|turn|unpack|unset|update|upgrade|use|"
    r"verify|wait|widen|write"
)
"""Verbs with which a next action begins."""
ACTION = re.compile(rf"(?:^|[;:.,(|] ?|\b(?:or|and|then|to) )(?:first |then |please )?(?:{VERBS})\b", re.IGNORECASE)
"""Begin of the clause that asks the reader to do something."""


@contextmanager
def refusal(error: type[Exception], *names: object, action: str) -> Iterator["pytest.ExceptionInfo[Exception]"]:
    """Expect an error whose message names what is at fault and what to do next.

    Parameters
    ----------
    error : type
        Class of the error.
    *names : object
        The file, field, channel or value that the message must name.
    action : str
        What the next action must name: an option, a command, a file, a setting, or the values to choose from.
    """
    with pytest.raises(error) as caught:
        yield caught
    check_message(caught.value, *names, action=action)


def check_message(error: object, *names: object, action: str) -> None:
    """Check one message: of an error, of a quarantined recording, or as printed; see `refusal`."""
    text = getattr(error, "reason", "") or str(error)
    assert "\n" not in text, f"more than one line: {text}"
    for name in names:
        assert str(name) in text, f"{name} is not named: {text}"
    asked = getattr(error, "next_action", "") or text
    begin = ACTION.search(asked)
    assert begin is not None, f"no next action: {asked}"
    assert action in asked[begin.start() :], f"the next action does not name {action}: {asked}"

"""A wrong ``emeg.yaml`` is refused with the name of the field, before a server is asked."""

from typing import Any

import pytest
import yaml
from tests.messages import refusal

from emeg.errors import UserError
from emeg.service.deployment import check_options
from emeg.service.settings import read_settings

SETTINGS = {
    "name": "lab",
    "stores": {"main": "store"},
    "archives": {"raw": {"archive": "archive", "store": "main"}},
}


@pytest.mark.parametrize(
    ("changes", "words", "action"),
    [
        ({"stores": {"other": "x"}}, ("archives.raw.store", "main"), "other"),
        ({"name": "Not a name"}, ("name",), "pattern"),
        (
            {"maintenance": {"verify": {"cron": "0 5 * * 0", "timezone": "Mars"}}},
            ("maintenance.verify",),
            "Europe/Berlin",
        ),
        ({"maintenance": {"verify": {"cron": "late"}}}, ("maintenance.verify.cron",), "cron"),
        ({"storse": {}}, ("storse",), "storse"),
        (
            {"trainings": {"x": {"verb": "pretrain", "store": "main", "options": {"stepz": 3}}}},
            ("trainings.x", "stepz"),
            "stepz",
        ),
    ],
)
def test_a_wrong_file_names_the_field(tmp_path, changes: dict[str, Any], words: tuple[str, ...], action: str):
    file = tmp_path / "emeg.yaml"
    file.write_text(yaml.safe_dump(SETTINGS | changes))
    with refusal(UserError, *words, action=action):
        check_options(read_settings(file))

"""Schedules of ``emeg.yaml`` keep their local hour over the changes of daylight saving time."""

import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.server.schemas.schedules import CronSchedule

from emeg.service.settings import read_settings
from emeg.service.wanted import wanted

BERLIN = ZoneInfo("Europe/Berlin")
"""Changes to summer time on 2027-03-28 (02:00 becomes 03:00) and back on 2027-10-31 (03:00 becomes 02:00)."""


@pytest.mark.parametrize(
    ("cron", "after", "runs"),
    [
        ("30 3 * * *", "2027-03-26", ["03-27 03:30 +0100", "03-28 03:30 +0200", "03-29 03:30 +0200"]),
        ("30 3 * * *", "2027-10-29", ["10-30 03:30 +0200", "10-31 03:30 +0100", "11-01 03:30 +0100"]),
        ("15 2 * * *", "2027-03-26", ["03-27 02:15 +0100", "03-28 01:15 +0100", "03-29 02:15 +0200"]),  # skipped time
        ("15 2 * * *", "2027-10-29", ["10-30 02:15 +0200", "10-31 02:15 +0200", "11-01 02:15 +0100"]),  # comes twice
        ("0 5 * * 0", "2027-03-26", ["03-28 05:00 +0200", "04-04 05:00 +0200", "04-11 05:00 +0200"]),
    ],
)
def test_the_server_schedules_each_night_once_at_its_local_hour(tmp_path, cron: str, after: str, runs: list[str]):
    schedule = {"cron": cron, "timezone": "Europe/Berlin"}
    archives = {"raw": {"archive": "archive", "store": "main", "schedule": schedule}}
    (tmp_path / "emeg.yaml").write_text(
        yaml.safe_dump({"name": "lab", "stores": {"main": "store"}, "archives": archives})
    )
    deployed = {resource.name: resource.fields for resource in wanted(read_settings(tmp_path / "emeg.yaml"))}
    (entry,) = deployed["ingest/raw"]["schedules"]
    start = datetime.fromisoformat(f"{after} 12:00").replace(tzinfo=BERLIN)
    dates = asyncio.run(CronSchedule(**entry["schedule"]).get_dates(n=len(runs), start=start))
    assert [date.astimezone(BERLIN).strftime("%m-%d %H:%M %z") for date in dates] == runs

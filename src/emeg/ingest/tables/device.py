"""Short names of recording devices: ``neuromag306``, ``ctf275``, ``biosemi-activetwo``."""

import re
from collections import Counter

import numpy as np

from emeg.ingest.tables.sidecars import Sidecars
from emeg.sensors import Sensors, SensorType

_MEG_FAMILIES = {
    2: "neuromag122",
    3012: "neuromag306",
    3013: "neuromag306",
    3014: "neuromag306",
    3022: "neuromag306",
    3023: "neuromag306",
    3024: "neuromag306",
    4001: "bti",
    4002: "bti",
    5001: "ctf",
    6001: "kit",
    7001: "baby",
    7002: "babymeg",
}
"""Helmet family by FIFF coil id; a name that ends in digits is complete."""

_HELMETS = {"ctf": (64, 151, 275), "bti": (148, 248), "kit": ()}
_FIRST_OPM, _LAST_OPM = 8000, 8999


def device_name(sensors: Sensors, sidecars: Sidecars, format_: str) -> str:
    """Name the device: MEG by its coils, electrodes by the sidecar's maker and model.

    Without maker and model, EEG is named by format and channel count, and intracranial recordings by their kinds of
    electrodes: every person has other contacts, so that a count names no device.
    """
    meg = sensors.is_meg
    if meg.any():
        return _helmet(sensors, int(meg.sum()))
    stated = f"{sidecars.text('Manufacturer')} {sidecars.text('ManufacturersModelName')}".replace("n/a", "")
    name = re.sub(r"[^a-z0-9]+", "-", stated.lower().replace(".", "")).strip("-")
    if sensors.is_intracranial.any():
        kinds = [SensorType(int(kind)).name.lower() for kind in np.unique(sensors.types)]
        return name or "-".join(kinds)
    return name or f"{format_.split('-')[0]}{len(sensors)}"


def _helmet(sensors: Sensors, n: int) -> str:
    coils = sensors.coils[sensors.is_meg] & 0xFFFF
    if np.all((coils > _FIRST_OPM) & (coils <= _LAST_OPM)):
        return f"opm{n}"
    families = Counter(_MEG_FAMILIES.get(int(coil), "meg") for coil in coils)
    family = families.most_common(1)[0][0]
    if family[-1].isdigit():
        return family
    # A helmet with a few sensors switched off is still that helmet.
    size = next((s for s in _HELMETS.get(family, ()) if 0.9 * s <= n <= s), n)
    return f"{family}{size}"

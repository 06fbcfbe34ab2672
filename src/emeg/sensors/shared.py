"""Sensors that several recordings share: by name on the scalp and in helmets, by name and position in the brain."""

from collections.abc import Sequence

import numpy as np

from emeg.sensors.layout import INTRACRANIAL_TYPES, Sensors
from emeg.sensors.names import standard_name

SAME_SITE_M = 0.01
"""Largest distance between contacts of two recordings that count as one, m: positions of different subjects are brought
to MNI152 to about 1 cm. Names alone say nothing, since every hospital calls an electrode A."""

SensorKey = tuple[str, int]
"""Name and type of a sensor."""


def sensor_keys(sensors: Sensors) -> list[SensorKey]:
    """Return name and type of every sensor, with the name of the 10-05 system where it means a scalp electrode."""
    return [
        (name if kind in INTRACRANIAL_TYPES else standard_name(name) or name, kind)
        for name, kind in zip(sensors.names, sensors.types.tolist(), strict=True)
    ]


def shared_sensors(recordings: Sequence[Sensors]) -> list[SensorKey]:
    """Return the sensors that all recordings have, in the order of the first.

    Sensors of the same name and type are one. Contacts in the brain must also be at most `SAME_SITE_M` apart.
    """
    rows = [{key: row for row, key in enumerate(sensor_keys(sensors))} for sensors in recordings]

    def is_shared(key: SensorKey) -> bool:
        if not all(key in own for own in rows):
            return False
        if key[1] not in INTRACRANIAL_TYPES:
            return True
        found = np.array([sensors.positions[own[key]] for sensors, own in zip(recordings, rows, strict=True)])
        return bool((np.linalg.norm(found[:, None] - found[None], axis=2) <= SAME_SITE_M).all())

    return [key for key in sensor_keys(recordings[0]) if is_shared(key)]

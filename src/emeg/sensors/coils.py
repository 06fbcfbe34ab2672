"""MEG coils by FIFF coil id: what each one measures.

Names are no guide: 4D gradiometers are called MAGNES, CTF and KIT gradiometers are "mag" channels in MNE because
they are calibrated in tesla. The ids are those of the FIFF dictionary as in MNE's ``coil_def.dat``.
"""

from typing import NamedTuple

from emeg.sensors.layout import SensorType

COIL_ID_MASK = 0xFFFF
"""The upper 16 bits of a CTF coil type hold the grade of the software gradient compensation."""

UNIT_NAMES = {107: "V", 112: "T", 201: "T/m"}
"""FIFF unit codes of the three units that a sensor may have."""

_X, _Z = 0, 2


class Coil(NamedTuple):
    """Quantity that a coil measures, and the local axis (0, 1, 2) along which it does so."""

    type: SensorType
    axis: int


_MAGNETOMETERS = (
    2000,  # point magnetometer
    *(3021, 3022, 3023, 3024, 3025),  # Neuromag VectorView and TRIUX: wire-wound, T1 to T4
    4001,  # 4D Magnes WH2500, WH3600 with magnetometers
    7002,  # BabyMEG
    *(8001, 8002),  # QuSpin zero-field OPM generations 1 and 2; Cerca and FIL systems use these
    8101,  # FieldLine OPM
    8201,  # Kernel OPM
)
_AXIAL_GRADIOMETERS = (
    2001,  # generic, 5 cm baseline
    4002,  # 4D Magnes WH3600
    5001,  # CTF
    6001,  # KIT, Yokogawa, RICOH
    7001,  # BabySQUID
    7501,  # Artemis123
    9001,  # KRISS
    *(9101, 9102),  # Compumedics adult, paediatric
)
_PLANAR_GRADIOMETERS = (
    2,  # Neuromag-122
    *(3011, 3012, 3013, 3014, 3015),  # Neuromag VectorView and TRIUX: wire-wound, T1 to T4
)

REFERENCE_COILS = frozenset({4003, 4004, 4005, 5002, 5003, 5004, 6002, 7003, 7004, 7502, 7503})
"""4D, CTF, KIT, BabyMEG and Artemis123 coils away from the head: they measure the surroundings."""

FREE_COILS = frozenset({2000, 8001, 8002, 8101, 8201})
"""Optically pumped and point magnetometers: placed freely, often with several axes at one position."""

SENSOR_COILS = {
    **dict.fromkeys(_MAGNETOMETERS, Coil(SensorType.MAGNETOMETER, _Z)),
    **dict.fromkeys(_AXIAL_GRADIOMETERS, Coil(SensorType.GRADIOMETER, _Z)),
    # A planar gradiometer differentiates along its first local axis; the normal would not tell the pair apart.
    **dict.fromkeys(_PLANAR_GRADIOMETERS, Coil(SensorType.GRADIOMETER, _X)),
}

PLANAR_COILS = frozenset(_PLANAR_GRADIOMETERS)


def coil_id(coil_type: int) -> int:
    """Return the FIFF coil id without CTF's compensation grade."""
    return coil_type & COIL_ID_MASK

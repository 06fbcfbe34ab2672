"""The sensors of one recording: type, unit, position and orientation of every channel."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from emeg.errors import UserError
from emeg.hashing import hash_json

EEG_COIL = 1
"""FIFF coil id of an EEG electrode (FIFFV_COIL_EEG)."""

LAYOUT_STEP_M = 1e-4
"""Positions closer than about 0.1 mm are equal for a layout id: far below any digitiser's error."""

LAYOUT_STEP_ORIENTATION = 1e-3
"""Orientations are rounded to 0.06 degrees for a layout id."""

Frame = Literal["device", "head"]


class SensorType(IntEnum):
    """What a sensor measures; the codes are those of the BrainTokenizer's embedding (arXiv 2505.18185).

    The last three are intracranial electrodes: depth electrodes, grids and strips on the cortex, and stimulation leads.
    """

    EEG = 0
    MAGNETOMETER = 1
    GRADIOMETER = 2
    SEEG = 3
    ECOG = 4
    DBS = 5


MEG_TYPES = (SensorType.MAGNETOMETER, SensorType.GRADIOMETER)
INTRACRANIAL_TYPES = (SensorType.SEEG, SensorType.ECOG, SensorType.DBS)

MNI_CENTRE_M = (0.0008, -0.0162, -0.0012)
MNI_RADIUS_M = 0.0986
"""Sphere fitted to the scalp electrodes of the Colin27 head in MNI coordinates: positions in the brain are relative to
it, so that a contact has the same coordinates whatever other contacts its recording has."""


@dataclass(frozen=True, eq=False)
class Sensors:
    """Sensors of a recording, in the order of its channels.

    Parameters
    ----------
    names : tuple of str
        Channel names as recorded.
    types : int8, shape (channels,)
        `SensorType` codes.
    units : tuple of str
        ``"V"``, ``"T"`` or ``"T/m"``.
    positions : float64, shape (channels, 3)
        Metres; EEG in head coordinates, MEG in `meg_frame`, intracranial electrodes in MNI152 coordinates.
    orientations : float64, shape (channels, 3)
        Unit vectors, as exactly as the file has them (single precision, 1e-4); zeros for electrodes.
    coils : int32, shape (channels,)
        FIFF coil ids; 1 for electrodes.
    meg_frame : {"device", "head"}
        Frame of the MEG positions and orientations.

    Raises
    ------
    UserError
        The fields disagree about the number of sensors.
    """

    names: tuple[str, ...]
    types: NDArray[np.int8]
    units: tuple[str, ...]
    positions: NDArray[np.float64]
    orientations: NDArray[np.float64]
    coils: NDArray[np.int32]
    meg_frame: Frame = "device"

    def __post_init__(self) -> None:
        n = len(self.names)
        arrays: dict[str, tuple[ArrayLike, type[np.generic], tuple[int, ...]]] = {
            "types": (self.types, np.int8, (n,)),
            "positions": (self.positions, np.float64, (n, 3)),
            "orientations": (self.orientations, np.float64, (n, 3)),
            "coils": (self.coils, np.int32, (n,)),
        }
        for name, (value, dtype, shape) in arrays.items():
            array: NDArray[Any] = np.array(value, dtype)
            if array.shape != shape:
                raise UserError(f"sensors: {name} has shape {array.shape}; pass {shape} for {n} names")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if len(self.units) != n:
            raise UserError(f"sensors: {len(self.units)} units for {n} names; pass one for each")

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int] | NDArray[np.integer[Any]] | NDArray[np.bool_]) -> Self:
        """Select sensors by index or by mask.

        Parameters
        ----------
        indices : intp, shape (selected,), or bool, shape (channels,)
            Indices in any order, also repeated, or a mask of the sensors to keep.

        Returns
        -------
        Sensors
            The selected sensors in the order of the indices.
        """
        order = np.arange(len(self))[np.asarray(indices, dtype=None if len(indices) else np.intp)]
        return type(self)(
            names=tuple(self.names[i] for i in order),
            types=self.types[order],
            units=tuple(self.units[i] for i in order),
            positions=self.positions[order],
            orientations=self.orientations[order],
            coils=self.coils[order],
            meg_frame=self.meg_frame,
        )

    def of_type(self, *types: SensorType) -> NDArray[np.bool_]:
        """Mark the sensors of the given types: bool, shape (channels,)."""
        return np.isin(self.types, [int(t) for t in types])

    @property
    def is_eeg(self) -> NDArray[np.bool_]:
        """Mark the EEG electrodes on the scalp: bool, shape (channels,)."""
        return self.of_type(SensorType.EEG)

    @property
    def is_meg(self) -> NDArray[np.bool_]:
        """Mark the MEG sensors: bool, shape (channels,)."""
        return self.of_type(*MEG_TYPES)

    @property
    def is_intracranial(self) -> NDArray[np.bool_]:
        """Mark the intracranial electrodes: bool, shape (channels,)."""
        return self.of_type(*INTRACRANIAL_TYPES)

    def to_records(self) -> list[dict[str, Any]]:
        """Return a mapping for each sensor, ready for JSON: name, type, unit, position, orientation, coil, frame."""
        return [
            {
                "name": self.names[i],
                "type": SensorType(int(self.types[i])).name.lower(),
                "unit": self.units[i],
                "position": self.positions[i].tolist(),
                "orientation": self.orientations[i].tolist(),
                "coil": int(self.coils[i]),
                "frame": self._frame(int(self.types[i])),
            }
            for i in range(len(self))
        ]

    def _frame(self, kind: int) -> str:
        if kind in INTRACRANIAL_TYPES:
            return "mni"
        return "head" if kind == SensorType.EEG else self.meg_frame

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> Self:
        """Create sensors from the mappings of `to_records`.

        Raises
        ------
        UserError
            A key is missing, a type is unknown, or MEG sensors name two frames.
        """
        rows = list(records)
        try:
            types = [SensorType[row["type"].upper()] for row in rows]
            frames = {row["frame"] for row, kind in zip(rows, types, strict=True) if kind in MEG_TYPES}
            if len(frames) > 1 or not frames <= {"device", "head"}:
                raise UserError(
                    f"sensor records: MEG sensors in frames {sorted(map(str, frames))}; use one of device, head"
                )
            return cls(
                names=tuple(row["name"] for row in rows),
                types=np.array(types, np.int8),
                units=tuple(row["unit"] for row in rows),
                positions=np.array([row["position"] for row in rows], np.float64).reshape(-1, 3),
                orientations=np.array([row["orientation"] for row in rows], np.float64).reshape(-1, 3),
                coils=np.array([row["coil"] for row in rows], np.int32),
                meg_frame=frames.pop() if frames else "device",
            )
        except KeyError as error:
            raise UserError(f"sensor records: {error} is missing or unknown; write them with to_records()") from error

    @cached_property
    def layout_id(self) -> str:
        """Name of the geometry: hash of types and rounded positions and orientations, in order, without names."""
        return hash_json(
            {
                "types": self.types.tolist(),
                "positions": _steps(self.positions, LAYOUT_STEP_M),
                "orientations": _steps(self.orientations, LAYOUT_STEP_ORIENTATION),
            }
        )

    def model_positions(self) -> NDArray[np.float32]:
        """Return normalised positions and orientations for the sensor encoder.

        Positions of EEG and of MEG are normalised separately: their mean is subtracted, and they are divided by
        sqrt(3 · mean |p|²), so that neither the frame's origin nor the head's size matters. Intracranial electrodes
        have MNI coordinates and cover parts of the brain, so the centre and size of a standard head are used for them.
        Orientations are not changed.

        Returns
        -------
        float32, shape (channels, 6)
            x, y, z without a unit, then the unit vector of the orientation, zeros for electrodes.

        References
        ----------
        arXiv 2505.18185, section on the sensor encoder.
        """
        positions = self.positions.copy()
        for group in (self.is_eeg, self.is_meg):
            if group.any():
                positions[group] = _normalised(positions[group])
        inside = self.is_intracranial
        positions[inside] = (positions[inside] - MNI_CENTRE_M) / (np.sqrt(3.0) * MNI_RADIUS_M)
        return np.concatenate([positions, self.orientations], axis=1).astype(np.float32)

    @property
    def modality(self) -> str:
        """``"eeg"``, ``"meg"``, ``"ieeg"`` or several joined by ``+``; empty without sensors."""
        parts = {"eeg": self.is_eeg.any(), "meg": self.is_meg.any(), "ieeg": self.is_intracranial.any()}
        return "+".join(name for name, there in parts.items() if there)


def _steps(values: NDArray[np.float64], step: float) -> list[list[int]]:
    """Round to whole steps; positions of a refused recording may be NaN, and it has a layout too."""
    whole: list[list[int]] = np.rint(np.clip(np.nan_to_num(values / step), -1e15, 1e15)).astype(int).tolist()
    return whole


def _normalised(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = positions - positions.mean(axis=0)
    scale = np.sqrt(3.0 * np.mean(np.sum(centred**2, axis=1)))
    # One sensor, or all at one position, has no size: it stays at the origin instead of becoming NaN.
    normalised: NDArray[np.float64] = centred / scale if scale > 0 else centred
    return normalised

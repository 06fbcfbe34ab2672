"""Compute the gain of every sensor for every dipole, with MNE's forward solution in a sphere.

Shape letters: C channels, S sources.
"""

import mne
import numpy as np
from mne.io.constants import FIFF
from numpy.typing import NDArray

from emeg.synthetic.devices import reference_rows
from emeg.synthetic.people import HEAD_CENTRE_M, Person
from emeg.synthetic.sources import Sources

FloatArray = NDArray[np.float64]

_BRAIN = 0.33
"""Conductivity of the brain, S/m."""
_PATCH_M = 0.006
"""Least distance of a contact from a source, m."""
_SHELLS = {"relative_radii": (0.90, 0.92, 0.97, 1.0), "brain": _BRAIN, "fluid": 1.0, "scalp": 0.33}
"""Brain, cerebrospinal fluid, skull, scalp: radii relative to the head's, S/m (as in MNE; skull: the person's)."""


def leadfield(info: mne.Info, person: Person, sources: Sources) -> FloatArray:
    """Compute the gain of every sensor for every dipole.

    Parameters
    ----------
    info : mne.Info
        Sensors from `describe_sensors`.

    Returns
    -------
    float64 (C, S)
        V, T or T/m for 1 A·m, the amplifier's reference already subtracted and its electrodes left out.
    """
    if info["chs"][0]["kind"] in (FIFF.FIFFV_SEEG_CH, FIFF.FIFFV_ECOG_CH):
        return _in_the_brain(np.array([channel["loc"][:3] for channel in info["chs"]]), sources)
    is_eeg = info["chs"][0]["kind"] == FIFF.FIFFV_EEG_CH
    conductivities = (_SHELLS["brain"], _SHELLS["fluid"], person.skull_conductivity, _SHELLS["scalp"])
    sphere = mne.make_sphere_model(
        HEAD_CENTRE_M, person.head_radius, None, _SHELLS["relative_radii"], conductivities, verbose="error"
    )
    space = mne.setup_volume_source_space(
        pos={"rr": sources.positions, "nn": sources.orientations},
        sphere=(*HEAD_CENTRE_M, person.head_radius),
        sphere_units="m",
        mindist=0.0,
        verbose="error",
    )
    # sphere: head and MRI coordinates are the same
    solution = mne.make_forward_solution(
        info, None, space, sphere, meg=not is_eeg, eeg=is_eeg, mindist=0.0, verbose="error"
    )
    fixed = mne.convert_forward_solution(solution, force_fixed=True, verbose="error")
    gain_CS: FloatArray = fixed["sol"]["data"]
    if gain_CS.shape != (len(info["chs"]), len(sources.names)):
        raise RuntimeError(
            f"forward solution of shape {gain_CS.shape} for {len(info['chs'])} sensors, {len(sources.names)} dipoles"
        )
    reference = reference_rows(info)
    if not reference:
        return gain_CS
    kept = np.setdiff1d(np.arange(len(gain_CS)), reference)
    return np.asarray(gain_CS[kept] - gain_CS[reference].mean(axis=0))


def _in_the_brain(contacts: FloatArray, sources: Sources) -> FloatArray:
    """Return the potential of dipoles in a large homogeneous conductor; patches of cortex are no points."""
    away = contacts[:, None] - sources.positions[None]
    distance = np.maximum(np.linalg.norm(away, axis=2), _PATCH_M)
    moment = np.einsum("csx,sx->cs", away, sources.orientations)
    return np.asarray(moment / (4.0 * np.pi * _BRAIN * distance**3))

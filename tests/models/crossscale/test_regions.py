"""Regions follow from positions: names of a standard cap lie in the region that they name."""

import numpy as np
import pytest
import torch
from tests.models.crossscale.caps import cap

from emeg.models.crossscale.regions import DIRECTIONS, N_REGIONS, assign_regions, find_layout

NAMED = {
    "Fz": "frontal",
    "F3": "frontal",
    "Fp2": "frontal",
    "Cz": "central",
    "C1": "central",
    "Pz": "parietal",
    "P1": "parietal",
    "Oz": "occipital",
    "O2": "occipital",
    "T7": "left temporal",
    "FT8": "right temporal",
    "T8": "right temporal",
}


def test_electrodes_lie_in_the_region_that_their_name_says():
    names, pos = cap("colin27_1005")
    found = [list(DIRECTIONS)[int(k)] for k in assign_regions(pos[None])[0]]
    assert {name: found[names.index(name)] for name in NAMED} == NAMED


@pytest.mark.parametrize("montage", ["colin27_1020", "biosemi64", "GSN-HydroCel-128"])
def test_every_region_of_a_whole_cap_has_sensors(montage):
    _, pos = cap(montage)
    assert set(assign_regions(pos[None])[0].tolist()) == set(range(N_REGIONS))


def test_kernels_average_neighbours_of_one_region_and_no_padding():
    _, pos = cap("biosemi64")
    mask = torch.ones(1, len(pos), dtype=torch.bool)
    mask[0, 10:14] = False
    layout = find_layout(pos[None], (0.2, 0.6, 1.8), mask)
    region = assign_regions(pos[None])[0].numpy()
    kernel = layout.kernel[0].numpy()
    assert (kernel[:, region[:, None] != region[None]] == 0).all()
    assert (kernel[:, :, 10:14] == 0).all()
    real = mask[0].numpy()
    np.testing.assert_allclose(kernel[:, real].sum(axis=-1), 1.0, rtol=1e-5)
    own = np.stack([np.diagonal(scale) for scale in kernel])[:, real]
    assert (np.diff(own, axis=0) <= 1e-6).all()  # a wider kernel leaves less to the sensor itself
    assert int(layout.member.sum()) == int(real.sum())


def test_two_sensors_at_one_position_have_finite_kernels():
    layout = find_layout(torch.zeros(1, 2, 6), (0.0, 0.6, 1.8))
    assert bool(torch.isfinite(layout.kernel).all())

"""Leadfields against closed forms that do not come from MNE."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import eval_legendre

from emeg.synthetic.devices import CTF_AXIAL, DEVICES, VECTORVIEW_PLANAR, describe_sensors, reference_rows
from emeg.synthetic.leadfield import leadfield
from emeg.synthetic.people import HEAD_CENTRE_M, draw_person
from emeg.synthetic.sources import Sources, place_sources

PERSON = draw_person(0, n_subjects=1, seed=0)


def sarvas(field_at, dipole_at, moment):
    """Field of a dipole in a sphere around the origin (Sarvas 1987, equation 25)."""
    a = field_at - dipole_at
    a_len, r_len = np.linalg.norm(a, axis=-1), np.linalg.norm(field_at, axis=-1)
    f = a_len * (r_len * a_len + r_len**2 - (dipole_at * field_at).sum(-1))
    a_dot_r = (a * field_at).sum(-1)
    grad = (a_len**2 / r_len + a_dot_r / a_len + 2 * a_len + 2 * r_len)[..., None] * field_at
    grad -= (a_len + 2 * r_len + a_dot_r / a_len)[..., None] * dipole_at
    cross = np.cross(moment, dipole_at)
    scaled = f[..., None] * cross - (cross * field_at).sum(-1)[..., None] * grad
    return 1e-7 * scaled / f[..., None] ** 2


def coils_in_head(info):
    turn, shift = info["dev_head_t"]["trans"][:3, :3], info["dev_head_t"]["trans"][:3, 3]
    loc = np.array([channel["loc"] for channel in info["chs"]])
    place = loc[:, :3] @ turn.T + shift - HEAD_CENTRE_M
    return place, loc[:, 3:6] @ turn.T, loc[:, 9:12] @ turn.T


@pytest.mark.parametrize("name", ["vectorview306", "ctf275", "opm64"])
def test_coils_see_the_field_of_sarvas_formula(name):
    sources = place_sources(PERSON, seed=0)
    info = describe_sensors(DEVICES[name], PERSON, seed=0)
    gain_CS = leadfield(info, PERSON, sources)
    place, first, normal = coils_in_head(info)
    coils = np.array([int(channel["coil_type"]) for channel in info["chs"]])

    def along_normal(shift):
        spots = (place + shift)[:, None]
        dipoles = (sources.positions - HEAD_CENTRE_M)[None]
        return np.einsum("csx,cx->cs", sarvas(spots, dipoles, sources.orientations[None]), normal)

    here = along_normal(np.zeros(3))
    baseline = 0.0168
    planar = (along_normal(first * baseline / 2) - along_normal(-first * baseline / 2)) / baseline
    axial = here - along_normal(normal * 0.05)
    expected = np.where(
        (coils == VECTORVIEW_PLANAR)[:, None], planar, np.where((coils == CTF_AXIAL)[:, None], axial, here)
    )
    for coil in np.unique(coils):
        rows = coils == coil
        # the coils are squares and rings of 2 cm, the formula knows points
        assert np.corrcoef(gain_CS[rows].ravel(), expected[rows].ravel())[0, 1] > 0.999
        assert np.linalg.norm(gain_CS[rows] - expected[rows]) < 0.06 * np.linalg.norm(expected[rows])


def test_a_radial_dipole_is_silent_in_meg_but_not_in_eeg():
    place = np.array(HEAD_CENTRE_M) + 0.065 * np.array([0.6, 0.0, 0.8])
    both = Sources(("radial", "tangential"), np.array([place, place]), np.array([[0.6, 0, 0.8], [0, 1.0, 0]]))
    for name in ("vectorview306", "ctf275", "opm64"):
        gain = leadfield(describe_sensors(DEVICES[name], PERSON, seed=0), PERSON, both)
        assert np.abs(gain[:, 0]).max() < 1e-6 * np.abs(gain[:, 1]).max()
    gain = leadfield(describe_sensors(DEVICES["biosemi64"], PERSON, seed=0), PERSON, both)
    assert np.ptp(gain[:, 0]) > 0.5 * np.ptp(gain[:, 1])


def shell_potential(angle, depth_radius, radii, conductivities):
    """Scalp potential of a radial unit dipole in concentric shells: boundary conditions solved degree by degree."""
    n_shells, total = len(radii), np.zeros_like(angle)
    for n in range(1, 80):
        # in shell k: A r^n + B r^-(n+1), in units of the outer radius; innermost B is the source's
        rows, right = np.zeros((2 * n_shells, 2 * n_shells)), np.zeros(2 * n_shells)
        source = n * depth_radius ** (n - 1) / (4 * np.pi * conductivities[0])
        rows[0, 1], right[0] = 1.0, source
        for k in range(n_shells - 1):
            r = radii[k]
            up, down = r**n, r ** -(n + 1)
            slope_up, slope_down = n * r ** (n - 1), -(n + 1) * r ** -(n + 2)
            rows[1 + 2 * k, 2 * k : 2 * k + 4] = [up, down, -up, -down]
            inner, outer = conductivities[k], conductivities[k + 1]
            flows = [inner * slope_up, inner * slope_down, -outer * slope_up, -outer * slope_down]
            rows[2 + 2 * k, 2 * k : 2 * k + 4] = flows
        rows[-1, -2:] = [n, -(n + 1)]
        solution = np.linalg.solve(rows, right)
        total += (solution[-2] + solution[-1]) * eval_legendre(n, np.cos(angle))
    return total


def test_scalp_potential_is_that_of_four_shells():
    person = replace(PERSON, skull_conductivity=0.006)
    direction = np.array([0.0, 0.6, 0.8])
    radius = 0.7  # of the head's
    place = np.array(HEAD_CENTRE_M) + radius * person.head_radius * direction
    source = Sources(("radial",), place[None], direction[None])
    info = describe_sensors(DEVICES["hydrocel128"], person, seed=0)
    gain_C = leadfield(info, person, source)[:, 0]
    spots = np.array([channel["loc"][:3] for channel in info["chs"]]) - HEAD_CENTRE_M
    angle = np.arccos(spots @ direction / np.linalg.norm(spots, axis=1))
    expected = shell_potential(angle, radius, (0.90, 0.92, 0.97, 1.0), (0.33, 1.0, 0.006, 0.33)) / person.head_radius**2
    reference = reference_rows(info)
    kept = np.setdiff1d(np.arange(len(expected)), reference)
    expected = expected[kept] - expected[reference].mean()
    # MNE fits the shells by three dipoles in a plain sphere
    assert np.abs(gain_C - expected).max() < 0.02 * np.abs(expected).max()


def test_a_tighter_skull_weakens_eeg_and_leaves_meg_alone():
    sources = place_sources(PERSON, seed=0)
    tight = replace(PERSON, skull_conductivity=PERSON.skull_conductivity / 2)
    eeg, meg = (describe_sensors(DEVICES[name], PERSON, seed=0) for name in ("biosemi64", "ctf275"))
    assert np.linalg.norm(leadfield(eeg, tight, sources)) < 0.85 * np.linalg.norm(leadfield(eeg, PERSON, sources))
    np.testing.assert_array_equal(leadfield(meg, tight, sources), leadfield(meg, PERSON, sources))


def test_the_potential_in_the_brain_is_the_derivative_of_that_of_a_charge():
    """Of a unit current at r0: 1 / (4 pi sigma |r - r0|); a dipole is its derivative along the moment."""
    info = describe_sensors(DEVICES["seeg"], PERSON, seed=0)
    sources = place_sources(PERSON, seed=0)
    gain = leadfield(info, PERSON, sources)
    contacts = np.array([channel["loc"][:3] for channel in info["chs"]])
    step = 1e-6

    def of_charges(positions):
        return 1 / (4 * np.pi * 0.33 * np.linalg.norm(contacts[:, None] - positions[None], axis=2))

    shift = step * sources.orientations
    expected = (of_charges(sources.positions + shift) - of_charges(sources.positions - shift)) / (2 * step)
    far = np.linalg.norm(contacts[:, None] - sources.positions[None], axis=2) > 0.006
    np.testing.assert_allclose(gain[far], expected[far], rtol=1e-4, atol=1e-3)
    assert far.mean() > 0.95

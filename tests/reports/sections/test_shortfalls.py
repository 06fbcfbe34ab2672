import numpy as np
import pytest
from tests.evaluation.test_comparisons import model, summary

from emeg.evaluation.products import ReconstructionSummary
from emeg.reports.sections.shortfalls import shortfalls


def reconstruction(alpha: float) -> ReconstructionSummary:
    return ReconstructionSummary(
        device="cap",
        sensor_type="eeg",
        n_segments=4,
        n_subjects=2,
        n_channels=8,
        pcc=0.9,
        pcc_subjects_sd=None,
        n_flat=0,
        bands={"theta": 0.95, "alpha": alpha, "beta": 0.93},
    )


@pytest.mark.parametrize(("alpha", "reason"), [(0.96, "after the tokenizer"), (0.5, "codes lose")])
def test_a_loss_names_rival_difference_worst_subject_and_the_stage(alpha, reason):
    base = np.linspace(0.5, 0.8, 8)
    own = model("pretrained_probe", [*(base - 0.1), 0.3])
    strong, weak = model("tangent_space", [*base, 0.9]), model("band_power", [*(base - 0.2), 0.2])
    found = summary(own, strong, weak).model_copy(update={"reconstruction": (reconstruction(alpha),)})
    lines = shortfalls(found)
    assert lines[0].startswith("pretrained_probe is worse than tangent_space: -0.16 [")
    assert "9 of 9 subjects" in lines[0]
    assert "08 (-0.60)" in lines[0]
    assert any(reason in line for line in lines)
    assert not any("band_power" in line for line in lines)


def test_a_model_that_beats_all_rivals_has_no_shortfall():
    base = np.linspace(0.5, 0.8, 8).tolist()
    own = model("pretrained_probe", [value + 0.1 for value in base])
    assert shortfalls(summary(own, model("tangent_space", base), model("random_probe", base))) == []

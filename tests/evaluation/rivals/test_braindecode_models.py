import sys
import types

import numpy as np
import pytest
import torch
from tests.messages import refusal

from emeg.errors import UserError
from emeg.evaluation.rivals import RIVALS, catalogue
from emeg.evaluation.rivals.braindecode_models import BraindecodeBuilder
from emeg.evaluation.rivals.published import MODELS


class Stand(torch.nn.Module):
    """Stands for a model of braindecode: it takes the arguments that all of them take."""

    def __init__(self, n_chans, n_times, n_outputs, sfreq, chs_info):
        super().__init__()
        self.sizes = (n_chans, n_times, n_outputs, sfreq, len(chs_info))
        self.final_layer = torch.nn.Linear(n_chans, n_outputs)

    def forward(self, x):
        return self.final_layer(x.std(dim=-1))

    @classmethod
    def from_pretrained(cls, repository, **sizes):
        raise OSError(f"{repository}: cannot find the requested files in the local cache")


@pytest.fixture
def braindecode(monkeypatch):
    models = types.ModuleType("braindecode.models")
    for published in MODELS.values():
        setattr(models, published.model, Stand)
    monkeypatch.setitem(sys.modules, "braindecode", types.ModuleType("braindecode"))
    monkeypatch.setitem(sys.modules, "braindecode.models", models)
    monkeypatch.setattr(catalogue, "missing_reason", lambda rival: "")


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_with_random_weights_is_trained_at_its_own_rate(braindecode, made, name):
    data = made("rhythm")
    rival = RIVALS[f"{name}_random"]
    given = {"kind": "classification", "n_classes": 2, "channels": data.channels, "sfreq": 128.0, "seed": 0}
    estimator = rival.estimator({"learning_rate": 1e-2, "steps": 8}, **given)
    estimator.fit(data.signal, data.labels)
    rate = MODELS[name].rate
    assert estimator.network_.sizes == (6, round(256 * rate / 128), 2, rate, 6)
    assert estimator.predict_proba(data.signal).shape == (120, 2)


def test_weights_that_cannot_be_loaded_name_their_repository(braindecode, made):
    data = made("rhythm")
    builder = BraindecodeBuilder("labram", data.channels, is_pretrained=True)
    with refusal(UserError, "labram", "braindecode/labram-pretrained", action="HF_HOME"):
        builder(6, 400, 2, 200.0)


def test_without_the_package_the_reason_names_the_environment(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "braindecode.models", None)
    with refusal(UserError, "biot", action="emeg[braindecode]"):
        BraindecodeBuilder("biot", made("rhythm").channels, is_pretrained=False)(6, 400, 2, 200.0)


def test_channels_are_described_as_mne_describes_them(made):
    infos = BraindecodeBuilder("eegpt", made("rhythm").channels, is_pretrained=False)._channel_infos()
    assert [info["ch_name"] for info in infos] == [f"E{k}" for k in range(6)]
    assert np.allclose(infos[2]["loc"][:3], (0.02, 0.0, 0.09))

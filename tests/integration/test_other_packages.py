"""`Decoder` and `Embedder` inside skorch, braindecode, MOABB and OpenEEGBench, offline.

The packages are not dependencies of emeg; `make test-packages` installs them into an environment of their own.
"""

import mne
import numpy as np
import pytest
import torch

from emeg import Decoder, Embedder
from emeg.models import BrainOmni, BrainOmniConfig
from emeg.tokenizers.braintokenizer import BrainTokenizerConfig

pytestmark = pytest.mark.filterwarnings("default")  # warnings of the other packages are shown, and are no failures

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2"]
SFREQ, N_TIMES = 200.0, 400
SIZES = {
    "config": {"lm_dim": 32, "lm_head": 4, "lm_depth": 2},
    "tokenizer": {"n_filters": 2, "n_dim": 16, "n_neuro": 4, "n_head": 2, "codebook_dim": 16, "codebook_size": 16},
}


def channels():
    info = mne.create_info(NAMES, SFREQ, "eeg")
    info.set_montage("colin27_1005")
    return info


def windows(n=24, seed=0):
    """Windows in volts in which the class changes the power over the left hemisphere by a factor of 10."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = rng.standard_normal((n, len(NAMES), N_TIMES)) * 1e-5
    x[y == 1, ::2] *= 10.0
    return x.astype(np.float32), y.astype(np.int64)


def arguments(**others):
    return {"n_outputs": 2, "chs_info": channels()["chs"], "n_times": N_TIMES, "sfreq": SFREQ, "config": SIZES} | others


def test_skorch_trains_a_decoder():
    pytest.importorskip("skorch", reason="skorch is not installed: make test-packages")
    from skorch import NeuralNetClassifier

    torch.manual_seed(0)
    x, y = windows()
    net = NeuralNetClassifier(
        Decoder,
        **{f"module__{name}": value for name, value in arguments().items()},
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=3e-3,
        batch_size=8,
        max_epochs=20,
        train_split=None,
        verbose=0,
    )
    net.fit(x, y)
    assert net.history[-1, "train_loss"] < net.history[0, "train_loss"]
    new_x, new_y = windows(seed=1)
    assert np.mean(net.predict(new_x) == new_y) > 0.8


def test_braindecodes_classifier_sets_the_arguments():
    pytest.importorskip("braindecode", reason="braindecode is not installed: make test-packages")
    from braindecode import EEGClassifier

    torch.manual_seed(0)
    x, y = windows()
    classifier = EEGClassifier(
        Decoder,
        module__chs_info=channels()["chs"],
        module__sfreq=SFREQ,
        module__config=SIZES,
        criterion=torch.nn.CrossEntropyLoss,
        lr=3e-3,
        batch_size=8,
        max_epochs=2,
        train_split=None,
        verbose=0,
    )
    classifier.fit(x, y)  # infers n_outputs, n_chans and n_times
    assert classifier.module_.n_outputs == 2
    assert classifier.module_.n_times == N_TIMES
    assert classifier.predict(x).shape == y.shape


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """OpenEEGBench's description of a pretrained decoder, its weights in a local file."""
    pytest.importorskip("open_eeg_bench", reason="open-eeg-bench is not installed: make test-packages")
    from open_eeg_bench.backbone import PretrainedBackbone

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "decoder.pth"
    torch.save(Decoder(**arguments()).state_dict(), path)
    return PretrainedBackbone(
        model_cls="emeg.inference.decoder.Decoder",
        model_kwargs={"config": SIZES},
        checkpoint_path=str(path),
        peft_target_modules=["qkv", "proj"],
    )


def built(backbone):
    return backbone.build(len(NAMES), N_TIMES, 2, SFREQ, channels()["chs"])


def test_openeegbench_loads_every_weight(backbone):
    model = built(backbone)
    stored = torch.load(backbone.checkpoint_path, weights_only=True)
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("head", ["LinearHead", "MLPHead", "OriginalHead", "FlattenHead"])
def test_openeegbench_replaces_the_head(backbone, head):
    import open_eeg_bench.head as heads

    model = built(backbone)
    getattr(heads, head)().apply(model, 2, backbone.head_module_name)
    output = model.eval()(torch.from_numpy(windows(4)[0]))
    assert output.shape == (4, model.n_features if head == "FlattenHead" else 2)


@pytest.mark.parametrize("strategy", ["Frozen", "LoRA", "FullFinetune"])
def test_openeegbench_fine_tunes(backbone, strategy):
    import open_eeg_bench.finetuning as finetuning

    model = built(backbone)
    wrapped = getattr(finetuning, strategy)().apply(model, backbone)[0]
    x, y = windows(8)
    loss = torch.nn.functional.cross_entropy(wrapped(torch.from_numpy(x)), torch.from_numpy(y))
    loss.backward()
    trained = {name for name, p in wrapped.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("final_layer" in name for name in trained)
    if strategy == "LoRA":
        assert any("lora" in name for name in trained)


def test_an_embedder_stands_in_a_moabb_evaluation(tmp_path, monkeypatch):
    pytest.importorskip("moabb", reason="moabb is not installed: make test-packages")
    monkeypatch.setenv("_MNE_FAKE_HOME_DIR", str(tmp_path))  # MOABB writes into MNE's configuration file
    from moabb.datasets.fake import FakeDataset
    from moabb.evaluations import CrossSessionEvaluation
    from moabb.paradigms import LeftRightImagery
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    torch.manual_seed(0)
    network = BrainOmni(BrainOmniConfig(**SIZES["config"]), BrainTokenizerConfig(**SIZES["tokenizer"]))
    network.save_pretrained(tmp_path / "model", provenance={})
    dataset = FakeDataset(["left_hand", "right_hand"], n_subjects=2, n_sessions=2, seed=1)
    paradigm = LeftRightImagery()
    epochs, _, _ = paradigm.get_data(dataset, [1], return_epochs=True)
    arrays, _, _ = paradigm.get_data(dataset, [1])

    by_epochs = Embedder(tmp_path / "model").transform(epochs)
    by_arrays = Embedder(tmp_path / "model", info=epochs.info, unit="uV").transform(arrays)
    np.testing.assert_allclose(by_arrays, by_epochs, atol=1e-4)

    pipelines = {
        "emeg": make_pipeline(
            Embedder(tmp_path / "model", info=epochs.info, unit="uV"), LogisticRegression(max_iter=500)
        )
    }
    results = CrossSessionEvaluation(paradigm, [dataset], hdf5_path=str(tmp_path), overwrite=True).process(pipelines)
    assert len(results) == 4
    assert results["score"].between(0, 1).all()

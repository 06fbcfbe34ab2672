import json
from pathlib import Path

import numpy as np
import torch
from tests.messages import refusal

from emeg.data import TaskConfig, task_windows
from emeg.errors import UserError
from emeg.evaluation.embeddings import EmbeddingSpec, embed, embedding_names
from emeg.models import BrainOmni
from emeg.models.causal.config import CausalConfig
from emeg.models.causal.transformer import CausalTransformer
from emeg.models.readout.pooling import STD_FLOOR
from emeg.store import Store, verify
from emeg.store.verification import VerifyConfig
from emeg.tokenizers.braintokenizer import normalise_signal
from emeg.tokenizers.mulaw import MuLaw, MuLawConfig

TASK = TaskConfig(name="t", classes={"left": ("left",), "right": ("right",)}, window_s=2.0, device="x")
SUBJECTS = ["d/00", "d/01"]


def test_features_are_those_of_the_network(root):
    store = Store.open(root)
    windows = task_windows(store, TASK, SUBJECTS)
    found = embed(store, windows, EmbeddingSpec("omni", pooling="log_std"), device="cpu")
    network = BrainOmni.from_pretrained(Path(root) / "models" / "omni").eval()
    for row in (0, 7, 39):
        batch = windows.read([row])
        types = torch.from_numpy(batch.sensor_type.astype(np.int64))
        with torch.inference_mode():
            signal = normalise_signal(torch.from_numpy(batch.signal), types)
            embedding = network.embed(signal, torch.from_numpy(batch.pos), types)
        expected = (embedding.std(dim=2, correction=0) + STD_FLOOR).log().flatten()
        np.testing.assert_allclose(found[row], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_each_recording_has_one_product_and_verify_finds_damage(root):
    store = Store.open(root)
    windows = task_windows(store, TASK, SUBJECTS)
    spec = EmbeddingSpec("omni")
    embed(store, windows, spec, device="cpu")
    names = store.names("embeddings")
    assert sorted(embedding_names(windows, spec)) == names
    cards = [json.loads((Path(root) / "embeddings" / name / "config.json").read_text()) for name in names]
    assert sorted(card["recording"] for card in cards) == sorted(set(windows.recordings.tolist()))
    assert not verify(VerifyConfig(root=root, kinds=("embeddings",))).failed
    file = Path(root) / "embeddings" / names[0] / "features.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    (fault,) = verify(VerifyConfig(root=root, kinds=("embeddings",))).faults
    assert names[0] in fault.product


def test_windows_in_another_order_share_the_product(root):
    store = Store.open(root)
    one = task_windows(store, TASK, SUBJECTS)
    other = task_windows(store, TASK.model_copy(update={"classes": {"a": ("right",), "b": ("left",)}}), SUBJECTS[::-1])
    spec = EmbeddingSpec("omni")
    assert embedding_names(one, spec) == embedding_names(other, spec)
    first, second = (embed(store, windows, spec, device="cpu") for windows in (one, other))
    place = {key: k for k, key in enumerate(zip(other.recordings.tolist(), other.starts.tolist(), strict=True))}
    order = [place[key] for key in zip(one.recordings.tolist(), one.starts.tolist(), strict=True)]
    np.testing.assert_array_equal(first, second[order])


def test_random_weights_differ_by_seed_and_trained_ones_do_not(root):
    windows = task_windows(Store.open(root), TASK, SUBJECTS)
    trained = {tuple(embedding_names(windows, EmbeddingSpec("omni", "pretrained", seed))) for seed in (0, 1)}
    random = {tuple(embedding_names(windows, EmbeddingSpec("omni", "random", seed))) for seed in (0, 1)}
    assert len(trained) == 1
    assert len(random) == 2


def test_a_missing_model_is_named(root):
    store = Store.open(root)
    with refusal(UserError, "nobody", action="name another"):
        embed(store, task_windows(store, TASK, SUBJECTS), EmbeddingSpec("nobody"), device="cpu")


def test_any_encoder_is_embedded_also_with_random_weights(root):
    store = Store.open(root)
    sizes = CausalConfig(width=16, n_head=2, depth=2, context_tokens=128, across_sources=False)
    CausalTransformer(sizes, MuLaw(MuLawConfig(n_codes=16))).save_pretrained(Path(root) / "models" / "causal")
    windows = task_windows(store, TASK, SUBJECTS)
    trained, random = (
        embed(store, windows, EmbeddingSpec("causal", weights), device="cpu") for weights in ("pretrained", "random")
    )
    assert trained.shape == random.shape == (len(windows.labels), 16)
    assert np.isfinite(trained).all()
    assert not np.allclose(trained, random)

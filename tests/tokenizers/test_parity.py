"""BrainTokenizer against numbers that the reference release computed (float32, one thread, random weights)."""

import json

import numpy as np
import pytest
import torch

from emeg.models.reference import our_name, read_reference
from emeg.tokenizers.braintokenizer import BrainTokenizer, TokenizerDraws, parameter_groups
from emeg.training import TrainTokenizerConfig

CASES = ("eeg", "meg", "both", "short")
ACTIVATION = 1e-4
LOSS = 1e-5
GRADIENT = 5e-3
"""The phase term divides by magnitudes that may be next to nothing, so a rounding error in the output grows. The
reference's own float32 gradients are 1.5e-3 of the largest from the float64 ones, beyond the 1e-3 that the fixture asks
for; operations in the release's very order are 1e-3 to 6e-3 from its numbers, by the processor's instructions."""
GRADIENT_BESIDES = 1e-4
"""Where that cannot be."""


def relative(ours, theirs):
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max())


@pytest.fixture(scope="module")
def parity(shared):
    return shared / "parity"


@pytest.fixture(scope="module")
def small(parity):
    return json.loads((parity / "small.json").read_text())


@pytest.fixture(scope="module")
def reference(parity, small):
    return read_reference(parity / "small.pt", small["config"])


def load(reference):
    model = BrainTokenizer(reference.tokenizer)
    prefix = "tokenizer."
    state = {k.removeprefix(prefix): v for k, v in reference.state.items() if k.startswith(prefix)}
    model.load_state_dict(state, strict=True)
    return model


@pytest.fixture(scope="module")
def evaluated(parity):
    with np.load(parity / "eval.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.mark.parametrize("case", CASES)
def test_activations_and_codes_are_the_references(reference, evaluated, small, case):
    model = load(reference).eval()
    theirs = {name.split("/")[1]: value for name, value in evaluated.items() if name.startswith(f"{case}/")}
    given = (theirs["x"], theirs["pos"], theirs["sensor_type"])
    overlap = small["cases"][case]["overlap"]
    with torch.no_grad():
        embedded = model.sensor_embed(given[1], given[2])
    assert relative(embedded, theirs["sensor_embedding"]) < ACTIVATION
    latents = model.encode_latents(*given, overlap=overlap)
    expected = torch.nn.functional.normalize(theirs["latent"].flatten(2, 3), dim=-1)
    assert relative(latents, expected) < ACTIVATION

    features, codes = model.tokenize(*given, overlap=overlap)
    clear = theirs["code_margin"].flatten(2, 3) > 1e-5
    same = codes == theirs["codes"].flatten(2, 3)
    assert same[clear].all()
    # A code that rightly differs excuses what follows from it, so only rows without one are compared.
    untouched = same.all(dim=-1)
    assert untouched.float().mean() > 0.9
    assert relative(features[untouched], theirs["features"][untouched]) < ACTIVATION
    assert relative(model.targets(given[0]), theirs["target"]) < ACTIVATION
    assert relative(model.reconstruct(*given), theirs["reconstruction"]) < ACTIVATION


class Step:
    """One training step with the reference's draws."""

    def __init__(self, reference, parity, dtype=torch.float32, *, keep_graph=False):
        with np.load(parity / "tokenizer_step.npz") as arrays:
            self.theirs = {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
        self.model = load(reference).train().to(dtype)
        x, noise = self.theirs["x"], self.theirs["noise"]
        order = self.theirs["channel_order"]
        n_hidden = len(order) - noise.shape[1]
        in_place = torch.zeros(len(x), len(order), *noise.shape[2:])
        in_place[:, order[n_hidden:]] = noise
        pos = self.theirs["pos"]
        self.losses = self.model.training_loss(
            x.to(dtype), pos.to(dtype), self.theirs["sensor_type"], draws=TokenizerDraws(order, in_place)
        )
        self.losses.total.backward(retain_graph=keep_graph)
        self.parameters = dict(self.model.named_parameters())

    def pairs(self, prefix):
        for name, value in self.theirs.items():
            if name.startswith(prefix):
                yield name, self.parameters[our_name(name.removeprefix(prefix))], value


@pytest.fixture(scope="module")
def step(reference, parity):
    return Step(reference, parity)


def test_losses_of_a_training_step(step):
    names = {"total": "loss", "time": "time_loss", "amplitude": "amp_loss", "phase": "phase_loss"}
    for ours, value in step.losses._asdict().items():
        theirs = step.theirs[f"out/{names.get(ours, ours if ours == 'pcc' else ours + '_loss')}"]
        assert abs(value.item() - theirs.item()) < LOSS, ours


def test_gradients_of_a_training_step(step):
    seen = 0
    for name, parameter, theirs in step.pairs("grad/"):
        assert relative(parameter.grad, theirs) < GRADIENT, name
        seen += 1
    for name, parameter, theirs in step.pairs("grad_norm/"):
        # A shift of all keys changes no attention: the gradient of the key's bias is rounding error, theirs 6e-9.
        assert abs(parameter.grad.norm() - theirs) < GRADIENT * theirs + 1e-7, name
        seen += 1
    assert seen == 6 + len(step.parameters)


def test_codebooks_follow_as_the_references(step):
    for level, codebook in enumerate(step.model.quantizer.codebooks):
        for name in ("embed", "embed_avg", "cluster_size"):
            assert relative(getattr(codebook, name), step.theirs[f"after/quantizer.{level}.{name}"]) < 1e-5
            assert not torch.equal(
                step.theirs[f"before/quantizer.{level}.{name}"], step.theirs[f"after/quantizer.{level}.{name}"]
            )


def adamw_moves(parameters, groups, recipe):
    """Return the change of each parameter by AdamW's first step, from its definition."""
    settings = {id(p): group for group in groups for p in group["params"]}
    moves = {}
    for name, parameter in parameters.items():
        group = settings[id(parameter)]
        gradient, value = parameter.grad.double(), parameter.detach().double()
        for decay in (group["weight_decay"], recipe.weight_decay - group["weight_decay"]):
            move = group["lr"] * (gradient / (gradient.abs() + recipe.eps) + decay * value)
            moves.setdefault(name, []).append(float(move.norm()))
    return moves


def test_optimiser_step_and_its_groups(step):
    """Compared with the other choice of weight decay too: where the two differ, the reference has ours."""
    recipe = TrainTokenizerConfig(root="", recipe="braintokenizer").optimiser
    rates = recipe.model_dump(include={"learning_rate", "quantizer_learning_rate", "weight_decay"})
    groups = parameter_groups(step.model, **rates)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(map(id, step.parameters.values()))
    moves = adamw_moves(step.parameters, groups, recipe)
    told_apart = set()
    for reference_name, _, theirs in step.pairs("adamw_delta_norm/"):
        name = our_name(reference_name.removeprefix("adamw_delta_norm/"))
        right, wrong = moves[name]
        assert abs(right - float(theirs)) < GRADIENT * float(theirs) + 2e-7, name
        if abs(right - wrong) > 4 * GRADIENT * right:
            assert abs(right - float(theirs)) < abs(wrong - float(theirs)), name
            told_apart.add(next(g["name"] for g in groups if any(p is step.parameters[name] for p in g["params"])))
    assert "decayed" in told_apart


N_FAINT = 3
"""Frequency bins, of 19,532, whose angle rounding decides: at 1.6e-5 to 5.1e-5 the output has next to no power there,
the median bin has 1.5e-2."""


def test_gradients_differ_in_the_three_faintest_frequency_bins_only(reference, parity, step, monkeypatch):
    """Rounding errors of float32 in the gradients, the reference's and ours, lie along six of thousands of directions.

    These are the gradients of the real and imaginary parts of the faintest bins, which a least-squares fit removes.
    The rest is below a tenth of the tolerance that the fixture gives.
    """
    spectra = []

    def spectrum(x):
        window = torch.hamming_window(x.shape[-1], dtype=x.dtype)
        spectra.append(torch.fft.rfft(x * window, norm="ortho"))
        return spectra[-1].abs(), spectra[-1].angle()

    monkeypatch.setattr("emeg.tokenizers.braintokenizer.losses.spectrum", spectrum)
    exact = Step(reference, parity, torch.float64, keep_graph=True)
    output_F = spectra[0].flatten()
    pairs, exact_pairs = list(step.pairs("grad/")), list(exact.pairs("grad/"))
    largest = [theirs.abs().max().double() for *_, theirs in pairs]
    parameters = [parameter for _, parameter, _ in exact_pairs]

    def stacked(gradients):
        return torch.cat([(g.double() / most).flatten() for g, most in zip(gradients, largest, strict=True)])

    faint = output_F.detach().abs().argsort()[:N_FAINT].tolist()
    parts = [part for bin in faint for part in (output_F[bin].real, output_F[bin].imag)]
    directions = [stacked(torch.autograd.grad(part, parameters, retain_graph=True)) for part in parts]
    along = torch.stack(directions, dim=1)
    exactly = stacked([parameter.grad for parameter in parameters])
    assert len(exactly) > 100 * along.shape[1]
    for gradients in ([theirs for *_, theirs in pairs], [parameter.grad for _, parameter, _ in pairs]):
        difference = stacked(gradients) - exactly
        share = torch.linalg.lstsq(along, difference[:, None]).solution
        assert (difference - (along @ share)[:, 0]).abs().max() < GRADIENT_BESIDES
        assert difference.abs().max() < GRADIENT


def test_without_the_phase_term_rounding_is_no_matter(reference, parity, monkeypatch):
    """The wide tolerance of gradients is therefore needed for the phase term only."""
    monkeypatch.setattr("emeg.tokenizers.braintokenizer.losses.PHASE_WEIGHT", 0.0)
    rounded, exact = Step(reference, parity), Step(reference, parity, torch.float64)
    for (name, one, _), (_, other, _) in zip(rounded.pairs("grad/"), exact.pairs("grad/"), strict=True):
        assert relative(one.grad, other.grad) < 1e-4, name

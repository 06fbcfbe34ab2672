"""The network as a whole: sizes, initialisation, random draws, learning, files, refusals."""

import copy
import json

import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from tests.messages import refusal

from emeg.errors import UserError
from emeg.tokenizers.braintokenizer import PRESETS, BrainTokenizer, BrainTokenizerConfig, pcc
from emeg.tokenizers.braintokenizer.seanet import SkippedLSTM, elu_then_pad


def signal(batch=2, channels=6, samples=256, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, samples, generator=generator)
    pos = torch.randn(batch, channels, 6, generator=generator)
    return x, pos, torch.randint(3, (batch, channels), generator=generator)


@pytest.mark.parametrize(("preset", "count"), [("nano", 319_866), ("paper", 5_050_338)])
def test_presets_have_the_published_numbers_of_parameters(preset, count):
    model = BrainTokenizer(PRESETS[preset])
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def dependence_on_input(initialisation):
    """Share of the first output that depends on the input."""
    torch.manual_seed(0)
    model = BrainTokenizer(PRESETS["nano"].model_copy(update={"initialisation": initialisation})).eval()
    x, pos, kind = signal(batch=8, channels=19, samples=512)
    with torch.no_grad():
        latents = model.encoder(
            x[:, :, None], model.sensor_embed(pos[:1].expand(8, -1, -1), kind[:1].expand(8, -1)), None, None
        )
        out = model.decoder(
            torch.nn.functional.normalize(latents, dim=-1), model.sensor_embed(pos, kind)[:1].expand(8, -1, -1), None
        )
    return float(out.std(dim=0).mean() / out.square().mean().sqrt())


def test_the_start_lets_the_signal_through():
    assert dependence_on_input("emeg") > 0.3
    assert dependence_on_input("release") < 1e-3


def test_initialisation_changes_no_name_or_shape():
    one, other = (
        BrainTokenizer(BrainTokenizerConfig(n_filters=4, n_dim=16, codebook_dim=16, codebook_size=8, initialisation=i))
        for i in ("emeg", "release")
    )
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}


def test_rows_taken_a_few_at_a_time_give_the_same(tiny, monkeypatch):
    tiny.eval()
    given = signal(batch=3, channels=20, samples=300)
    latents = tiny.encode_latents(*given)
    monkeypatch.setattr("emeg.tokenizers.braintokenizer.seanet.CPU_ELEMENTS", 7 * 128 * 4)
    sizes = []
    monkeypatch.setattr(
        SkippedLSTM, "forward", lambda self, x, run=SkippedLSTM.forward: sizes.append(len(x)) or run(self, x)
    )
    torch.testing.assert_close(latents, tiny.encode_latents(*given), rtol=1e-5, atol=1e-5)
    assert sizes == [7] * 17 + [1]


@settings(max_examples=25, deadline=None)
@for_all(seed=st.integers(0, 10**6), left=st.integers(0, 3), right=st.integers(0, 3), time=st.integers(4, 9))
def test_elu_and_padding_in_one_pass_have_the_value_and_gradient_of_the_two(seed, left, right, time):
    x = torch.randn(2, time, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    apart = torch.nn.functional.pad(torch.nn.functional.elu(x).mT, (left, right), mode="reflect").mT
    together = elu_then_pad(x, left, right)
    torch.testing.assert_close(together, apart)  # neighbours in memory are vectorised otherwise
    gradient = torch.randn_like(apart)
    one, other = (torch.autograd.grad(out, x, gradient)[0] for out in (together, apart))
    torch.testing.assert_close(one, other)


def test_order_of_channels_does_not_matter(tiny):
    x, pos, kind = signal(channels=9)
    order = torch.randperm(9)
    tiny.eval()
    torch.testing.assert_close(
        tiny.encode_latents(x, pos, kind),
        tiny.encode_latents(x[:, order], pos[:, order], kind[:, order]),
        rtol=1e-4,
        atol=1e-5,
    )
    rebuilt = tiny.reconstruct(x, pos, kind)
    torch.testing.assert_close(
        rebuilt[:, order], tiny.reconstruct(x[:, order], pos[:, order], kind[:, order]), rtol=1e-3, atol=1e-4
    )


def test_a_step_is_its_generators(tiny_config):
    def step(seed):
        torch.manual_seed(0)
        model = BrainTokenizer(tiny_config.model_copy(update={"dropout": 0.2})).train()
        torch.manual_seed(seed + 1)  # chance elsewhere must not matter
        losses = model.training_loss(*signal(), generator=torch.Generator().manual_seed(seed))
        return losses.total.item(), model.quantizer.codebooks[0].embed

    assert step(4)[0] == step(4)[0]
    assert torch.equal(step(4)[1], step(4)[1])
    assert step(4)[0] != step(5)[0]


def test_hidden_channels_do_not_reach_the_encoder(tiny):
    x, pos, kind = signal(channels=8)
    seen = torch.ones(2, 8, dtype=torch.bool)
    seen[:, 2] = False
    tiny.eval()
    one = tiny.reconstruct(x, pos, kind, seen=seen)
    x[:, 2] = 100.0
    assert torch.equal(one, tiny.reconstruct(x, pos, kind, seen=seen))
    assert not torch.equal(one, tiny.reconstruct(x, pos, kind))


def test_encoding_is_differentiable_and_leaves_quantizer_and_decoder_alone(tiny):
    tiny.train()
    before = copy.deepcopy(tiny.quantizer.state_dict())
    tiny.encode_latents(*signal(), overlap=0.25).sum().backward()
    assert all(parameter.grad is None for parameter in tiny.decoder.parameters())
    assert tiny.encoder.neuros.grad.abs().max() > 0
    tiny.update_codebooks()
    assert all(torch.equal(value, before[name]) for name, value in tiny.quantizer.state_dict().items())


def test_tokens_do_not_depend_on_the_precision_around_them(tiny):
    tiny.eval()
    plain = tiny.tokenize(*signal())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = tiny.tokenize(*signal())
    assert torch.equal(plain.codes, inside.codes)
    assert torch.equal(tiny.features_from_codes(plain.codes.to(torch.int16)), inside.features)


def test_mixed_precision_trains(tiny):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = tiny.train().training_loss(*signal(), generator=torch.Generator().manual_seed(0))
    losses.total.backward()
    assert all(term.dtype == torch.float32 and term.isfinite() for term in losses)


def test_it_learns_a_few_sources(tiny_config):
    """Three oscillations in five sensors: the recipe's initialisation separates them, that of the release does not."""

    def learn(initialisation):
        torch.manual_seed(0)
        model = BrainTokenizer(tiny_config.model_copy(update={"initialisation": initialisation}))
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.5, 0.9), eps=1e-5)
        generator = torch.Generator().manual_seed(0)
        mixing, pos = torch.randn(5, 3, generator=generator), torch.randn(1, 5, 6, generator=generator)
        kind = torch.zeros(8, 5, dtype=torch.long)

        def batch():
            phase = 6.28 * torch.rand(8, 3, 1, generator=generator)
            cycles = torch.tensor([2.0, 3.0, 5.0])[:, None] * 6.2832 * torch.arange(128) / 128
            return mixing @ torch.sin(cycles + phase), pos.expand(8, -1, -1), kind

        for step in range(30 if initialisation == "emeg" else 15):
            optimiser.zero_grad()
            model.train().training_loss(*batch(), generator=generator, loss_ramp=step / 300).total.backward()
            optimiser.step()
        model.eval()
        x, *rest = batch()
        return float(pcc(model.reconstruct(x, *rest), model.targets(x)).mean())

    assert learn("emeg") > 0.4
    assert abs(learn("release")) < 0.05


def test_round_trip_through_a_folder(tiny, tiny_config, tmp_path):
    tiny.train().training_loss(*signal(), generator=torch.Generator().manual_seed(0))
    tiny.eval().save_pretrained(tmp_path / "a", provenance={"corpus": "x"})
    loaded = BrainTokenizer.from_pretrained(tmp_path / "a")
    assert not loaded.training
    assert loaded.config == tiny_config
    assert torch.equal(loaded.tokenize(*signal()).features, tiny.tokenize(*signal()).features)
    card = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (card["kind"], card["provenance"]) == ("braintokenizer", {"corpus": "x"})
    loaded.save_pretrained(tmp_path / "b", provenance={"corpus": "x"})
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_folder_that_does_not_fit_is_refused(tiny, tiny_config, tmp_path):
    from safetensors.torch import load_file, save_file

    with refusal(UserError, tmp_path, "config.json", action="folder"):
        BrainTokenizer.from_pretrained(tmp_path)
    tiny.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    first = next(iter(state))
    save_file({k: v for k, v in state.items() if k != first}, weights)
    with refusal(UserError, f"missing: {first}", action="one model"):
        BrainTokenizer.from_pretrained(tmp_path)
    save_file({**state, "stray": torch.zeros(1), first: torch.zeros(1, 2, 3)}, weights)
    with refusal(UserError, "unknown: stray", f"another shape: {first}", action="one model"):
        BrainTokenizer.from_pretrained(tmp_path)
    weights.write_bytes(weights.read_bytes()[:1000])
    with refusal(UserError, weights, action="model again"):
        BrainTokenizer.from_pretrained(tmp_path)
    card = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**card, "kind": "brainomni"}))
    with refusal(UserError, "config.json", "'brainomni'", action="'braintokenizer'"):
        BrainTokenizer.from_pretrained(tmp_path)


def spoiled():
    x, pos, kind = signal()
    mask = torch.ones(2, 6, dtype=torch.bool)
    nan, far = x.clone(), kind.clone()
    nan[1, 3, 5] = torch.nan
    far[0, 2] = 3
    none = mask.clone()
    none[1] = False
    yield ("x:", "(6, 256)"), "(batch, channel, sample)", (x[0], pos, kind)
    yield ("pos:", "(2, 6, 3)"), "(2, 6, 6)", (x, pos[..., :3], kind)
    yield ("sensor_type:", "(2, 5)"), "(2, 6)", (x, pos, kind[:, :5])
    yield ("sensor_type:", "float32"), "whole numbers", (x, pos, kind.float())
    yield ("sensor_type:", "sample 0, channel 2"), "0 (EEG)", (x, pos, far)
    yield ("x: NaN", "sample 1, channel 3"), "repair", (nan, pos, kind)
    yield ("pos: NaN",), "channels", (x, pos * torch.nan, kind)
    yield ("channel_mask:", "int64"), "bool", (x, pos, kind, mask.long())
    yield ("channel_mask:", "(2, 5)"), "(2, 6)", (x, pos, kind, mask[:, :5])
    yield ("channel_mask:", "sample 1"), "leave it", (x, pos, kind, none)


@pytest.mark.parametrize(("named", "action", "given"), list(spoiled()), ids=lambda v: v if isinstance(v, str) else "")
def test_bad_input_is_refused_with_its_place(tiny, named, action, given):
    for method in (tiny.training_loss, tiny.reconstruct):
        with refusal(UserError, *named, action=action):
            method(*given)


@pytest.mark.parametrize(
    ("codes", "action"),
    [
        (torch.zeros(2, 4, dtype=torch.long), "(…, 3)"),
        (torch.full((2, 3), 32), "tokenizer"),
        (torch.full((2, 3), -1), "tokenizer"),
        (torch.zeros(2, 3), "whole numbers"),
    ],
)
def test_codes_of_another_tokenizer_are_refused(tiny, codes, action):
    with refusal(UserError, "codes", action=action):
        tiny.features_from_codes(codes)


@pytest.mark.parametrize(
    "change", [{"ratios": (8, 3, 2)}, {"n_dim": 66}, {"n_filters": 7}, {"strides": 2}, {"codebook_size": 1}]
)
def test_sizes_that_do_not_fit_are_refused(change):
    with pytest.raises(UserError):
        BrainTokenizerConfig.checked(change, source="test")


def test_lstms_run_in_the_precision_of_their_weights_under_autocast():
    """Autocast on CUDA would run them in float16, whose gradients underflow without a loss scale."""
    model = BrainTokenizer(PRESETS["nano"]).train()
    seen = []
    for module in model.modules():
        if isinstance(module, torch.nn.LSTM):
            module.register_forward_pre_hook(
                lambda _, given: seen.append((given[0].dtype, torch.is_autocast_enabled("cpu")))
            )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.training_loss(*signal(samples=512)).total.backward()
    assert set(seen) == {(torch.float32, False)}


def set_tf32_by_the_old_flags():
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True


def set_tf32_by_the_new_settings():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # unlike the LSTM's: then the old flag has no value


@pytest.fixture
def settings_restored():
    settings_of = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    settings_of += (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv, torch.backends.mkldnn.rnn)
    before = [setting.fp32_precision for setting in settings_of]
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield settings_of
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn
    for setting, value in zip(settings_of, before, strict=True):
        setting.fp32_precision = value


@pytest.mark.parametrize("set_by_process", [set_tf32_by_the_old_flags, set_tf32_by_the_new_settings])
def test_tokens_and_reconstructions_take_no_tf32_whatever_the_process_has_set(set_by_process, settings_restored):
    model = BrainTokenizer(PRESETS["nano"]).eval()
    seen, flags = [], []
    model.encoder.register_forward_pre_hook(lambda *_: seen.append([s.fp32_precision for s in settings_restored]))
    # cuBLAS and cuDNN ask for these, and PyTorch raises if flags and settings contradict each other
    model.encoder.register_forward_pre_hook(
        lambda *_: flags.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
    )
    set_by_process()
    asked_for = [setting.fp32_precision for setting in settings_restored]
    model.tokenize(*signal(samples=512))
    model.reconstruct(*signal(samples=512))
    assert seen == [["ieee"] * 6] * 2
    assert flags == [(False, False)] * 2
    assert [setting.fp32_precision for setting in settings_restored] == asked_for
    if set_by_process is set_tf32_by_the_old_flags:
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("medium", True)


@pytest.mark.parametrize("options", [{}, {"target": "signal", "equaliser": 0.75, "sensor_gain": True}])
def test_decoded_codes_are_the_reconstruction(tiny_config, options):
    torch.manual_seed(0)
    network = BrainTokenizer(tiny_config.model_copy(update=options)).eval()
    x, pos, kind = signal(samples=3 * tiny_config.window_length)
    network.prepare([(x[:1], pos[:1], kind[:1])])
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    codes = network.tokenize(x, pos, kind, channel_mask=mask).codes
    made = network.decode(codes, pos, kind, mask)
    assert made.std() > 0
    assert not made[1, 4:].any()
    assert torch.allclose(made, network.reconstruct(x, pos, kind, mask).flatten(2), atol=1e-5)


def test_codes_of_overlapping_windows_are_decoded_to_their_span(tiny):
    x, pos, kind = signal(samples=tiny.config.window_length * 5 // 2)
    codes = tiny.eval().tokenize(x, pos, kind, overlap=0.25).codes
    assert tiny.decode(codes, pos, kind, overlap=0.25).shape == x.shape

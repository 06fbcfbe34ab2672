"""Codes, codebook updates, and the gradient through them."""

import copy
import socket

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import multiprocessing
from torch.utils._python_dispatch import TorchDispatchMode

from emeg.tokenizers.braintokenizer import codebook_use
from emeg.tokenizers.braintokenizer.quantization.kmeans import cluster, nearest, sum_exactly
from emeg.tokenizers.braintokenizer.quantization.residual import Codebook, ResidualQuantizer, rotate


def quantizer(seed=0, n_dim=8, codebook_dim=8, size=16, levels=3, rotation_trick=True):
    torch.manual_seed(seed)
    return ResidualQuantizer(n_dim, codebook_dim, size, levels, rotation_trick=rotation_trick)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), codebook_dim=st.sampled_from([8, 5]))
def test_features_are_the_codes_own_sums_bit_for_bit(seed, codebook_dim):
    network = quantizer(seed, codebook_dim=codebook_dim).eval()
    latents = torch.randn(2, 3, 4, 8)
    codes = network.encode(latents)
    total = torch.zeros(2, 3, 4, codebook_dim)
    for level, codebook in enumerate(network.codebooks):
        total = total + codebook.embed[codes[..., level]]
    features = network.decode(codes)
    assert torch.equal(features, network.project_out(total))
    assert torch.equal(features, network(latents).features)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 999), max_size=5, unique=True))
def test_codebook_updates_do_not_depend_on_the_order_of_latents(seed, cuts):
    """Bit for bit, so that runs on different numbers of ranks agree."""
    torch.manual_seed(seed)
    one = Codebook(4, 8, scale=1.0)
    other = copy.deepcopy(one)
    started_VD = one.embed_avg.double()
    latents_RD = torch.nn.functional.normalize(torch.randn(1000, 8), dim=-1)
    codes_R = torch.arange(1000) % 4  # 250 each: none is dead
    order = torch.randperm(1000)
    one.observe(latents_RD, codes_R, torch.Generator().manual_seed(0))
    for part in order.tensor_split(sorted(cuts)):
        other.observe(latents_RD[part], codes_R[part], torch.Generator().manual_seed(0))
    for codebook in (one, other):
        codebook.follow(codebook.take_observed())
    assert torch.equal(one.embed, other.embed)
    assert torch.equal(one.embed_avg, other.embed_avg)
    sums_VD = torch.zeros(4, 8, dtype=torch.float64).index_add_(0, codes_R, latents_RD.double())
    torch.testing.assert_close(one.embed_avg.double(), 0.99 * started_VD + 0.01 * sums_VD, rtol=1e-6, atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_codes_are_nearest_level_by_level(seed):
    network = quantizer(seed).eval()
    latents = torch.randn(50, 8)
    residual = torch.nn.functional.normalize(latents, dim=-1).double()
    codes = network.encode(latents)
    for level, codebook in enumerate(network.codebooks):
        distance = torch.cdist(residual, codebook.embed.double())
        chosen = distance.gather(1, codes[:, level : level + 1])[:, 0]
        torch.testing.assert_close(chosen, distance.min(dim=1).values, rtol=0, atol=1e-6)
        residual = residual - codebook.embed.double()[codes[:, level]]


def test_nothing_is_learned_outside_training():
    network = quantizer().eval()
    before = copy.deepcopy(network.state_dict())
    network(torch.randn(100, 8))
    network.follow()
    network.train().encode(torch.randn(100, 8))
    network.follow()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_kmeans_finds_clusters_and_counts_them():
    centres = torch.eye(6)[:4] * 3
    labels = torch.arange(4).repeat_interleave(torch.tensor([10, 20, 30, 40]))
    rows = centres[labels] + 0.01 * torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for seed in range(8):
        places, counts = cluster(rows, 4, torch.Generator().manual_seed(seed))
        assert counts.sum() == 100
        found.append(sorted(counts.tolist()))
        own = nearest(rows, places)
        for number in counts.nonzero()[:, 0]:
            torch.testing.assert_close(places[number], rows[own == number].mean(dim=0))
            assert counts[number] == (own == number).sum()
    assert [10, 20, 30, 40] in found


class AtomicSums(TorchDispatchMode):
    """Lists the operations that a GPU computes by atomic additions, with the dtype of what they add to."""

    NAMES = ("index_add", "scatter_add", "scatter_reduce", "index_put", "bincount", "embedding_dense_backward")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func.overloadpacket).rpartition(".")[2].strip("_")
        if name in self.NAMES:
            self.found.append((name, args[0].dtype))
        return func(*args, **(kwargs or {}))


def test_kmeans_on_a_gpu_adds_integers_only_and_never_waits_for_values():
    """Atomic additions of floats have no fixed order, so the sum varies. The meta device stands for a GPU."""
    rows = torch.empty(5000, 8, device="meta")
    with AtomicSums() as sums:
        centres, counts = cluster(rows, 16, torch.Generator().manual_seed(0))
    assert (centres.shape, counts.shape) == ((16, 8), (16,))
    assert set(sums.found) == {("index_add", torch.int64)}  # bincount would wait for the largest code


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_sums_of_clusters_are_the_same_in_any_order(seed):
    generator = torch.Generator().manual_seed(seed)
    rows, codes = torch.randn(3000, 8, generator=generator), torch.randint(5, (3000,), generator=generator)
    order = torch.randperm(3000, generator=generator)
    sums = sum_exactly(rows, codes, 5)
    assert torch.equal(sums, sum_exactly(rows[order], codes[order], 5))
    exact = torch.stack([rows[codes == code].double().sum(dim=0) for code in range(5)])
    torch.testing.assert_close(sums.double(), exact, rtol=1e-6, atol=1e-6)


def test_first_batch_starts_sums_at_centroid_times_count_and_keeps_lengths():
    """With sums that start at the centroid alone, the first update would divide the vectors by their counts."""
    network = quantizer(size=16).train()
    batch = torch.randn(6000, 8)
    network(batch, torch.Generator().manual_seed(0))
    for codebook in network.codebooks:
        assert codebook.inited.item() == 1
        torch.testing.assert_close(codebook.embed_avg, codebook.embed * codebook.cluster_size[:, None])
        assert codebook.cluster_size.sum().item() == pytest.approx(6000)
    before = network.codebooks[0].embed.clone()
    network.follow()
    after = network.codebooks[0].embed
    assert float((after.norm(dim=1) / before.norm(dim=1)).median()) == pytest.approx(1, abs=0.05)


def test_running_means_follow_their_definition():
    codebook = Codebook(3, 2, scale=1.0)
    codebook.inited.fill_(1)
    embed = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    codebook.embed.copy_(embed)
    codebook.cluster_size.copy_(torch.tensor([10.0, 20.0, 30.0]))
    codebook.embed_avg.copy_(embed * codebook.cluster_size[:, None])
    rows, codes = torch.tensor([[0.9, 0.1], [0.8, 0.0], [0.1, 0.7]]), torch.tensor([0, 0, 1])
    codebook.observe(rows, codes, None)
    codebook.follow(codebook.take_observed())
    torch.testing.assert_close(codebook.cluster_size, torch.tensor([9.9 + 0.02, 19.8 + 0.01, 29.7]))
    sums = torch.tensor([[9.9 + 0.017, 0.001], [0.001, 19.8 + 0.007], [-29.7, 0.0]])
    torch.testing.assert_close(codebook.embed_avg, sums)
    torch.testing.assert_close(codebook.embed, sums / codebook.cluster_size[:, None])


def test_several_micro_batches_count_as_one():
    together, apart = quantizer().train(), quantizer().train()
    warm = torch.randn(400, 8)
    for network in (together, apart):
        network(warm, torch.Generator().manual_seed(0))
        network.follow()
    batch = torch.randn(300, 8)
    together(batch, torch.Generator().manual_seed(1))
    for part in batch.split(100):
        apart(part, torch.Generator().manual_seed(1))
    together.follow()
    apart.follow()
    for one, other in zip(together.codebooks, apart.codebooks, strict=True):
        torch.testing.assert_close(one.cluster_size, other.cluster_size)
        torch.testing.assert_close(one.embed_avg, other.embed_avg)


def test_dead_codes_come_back_with_their_sum_and_count():
    network = quantizer(levels=1).train()
    codebook = network.codebooks[0]
    network(torch.randn(800, 8), torch.Generator().manual_seed(0))
    network.follow()
    codebook.embed[3] = 50.0
    codebook.embed_avg[3] = 50.0 * 1.5
    codebook.cluster_size[3] = 1.5
    batch = torch.randn(800, 8)
    network(batch, torch.Generator().manual_seed(1))
    network.follow()
    normalised = torch.nn.functional.normalize(batch, dim=-1)
    assert float((normalised - codebook.embed[3]).norm(dim=1).min()) < 1e-6
    assert codebook.cluster_size[3] == 2.0
    torch.testing.assert_close(codebook.embed_avg[3], 2.0 * codebook.embed[3])
    network.eval()
    assert (network.encode(normalised)[:, 0] == 3).any()


def test_a_batch_of_few_vectors_does_not_kill_every_code():
    """A single MEG window has 128 vectors: with 256 codes an even share is 0.5, below two."""
    network = quantizer(size=256, levels=1, n_dim=16, codebook_dim=16).train()
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(256, 16, generator=generator)
    for _ in range(30):
        picks = torch.randint(256, (128,), generator=generator)
        network(centres[picks] + 0.05 * torch.randn(128, 16, generator=generator), generator)
        network.follow()
    codebook = network.codebooks[0]
    before = codebook.embed.clone()
    network(centres[:128], generator)
    network.follow()
    replaced = ((codebook.embed - before).norm(dim=1) > 0.2).float().mean()
    assert replaced < 0.5


def test_rotation_gives_the_vector_and_its_own_gradient():
    x = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
    onto = torch.randn(20, 8, dtype=torch.float64)
    out = rotate(x, onto)
    torch.testing.assert_close(out, onto)
    # The map is a rotation times |onto| / |x|: gradients keep their length up to that factor, and x's own direction
    # comes from onto's.
    gradient = torch.randn_like(out)
    (back,) = torch.autograd.grad(out, x, gradient)
    factor = onto.norm(dim=1) / x.norm(dim=1)
    torch.testing.assert_close(back.norm(dim=1), gradient.norm(dim=1) * factor.detach())
    along = (gradient * onto).sum(1) / onto.norm(dim=1) * factor
    torch.testing.assert_close((back * x).sum(1) / x.norm(dim=1), along)


def test_straight_through_without_rotation():
    network = quantizer(rotation_trick=False).train()
    latents = torch.nn.functional.normalize(torch.randn(40, 8), dim=-1).requires_grad_()
    out = network(latents, torch.Generator().manual_seed(0))
    torch.testing.assert_close(out.features, network.eval().decode(out.codes))


def test_codebook_use():
    codes = torch.tensor([[0, 0], [1, 0], [2, 0], [3, 0]])
    use = codebook_use(codes, 8)
    assert use.used.tolist() == [4, 1]
    torch.testing.assert_close(use.perplexity, torch.tensor([4.0, 1.0]))


def _uneven_rank(rank, port, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    network = quantizer().train()
    for _ in range(1 + rank):
        network(torch.randn(50, 8), torch.Generator().manual_seed(0))
    try:
        network.follow()
    except RuntimeError as error:
        (out / f"{rank}.txt").write_text(str(error))
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_ranks_with_different_counts_say_so_instead_of_waiting(tmp_path):
    multiprocessing.start_processes(_uneven_rank, (free_port(), tmp_path), nprocs=2, start_method="spawn")
    for rank in range(2):
        assert "[[1, 16, 1, 16, 1, 16], [2, 16, 2, 16, 2, 16]]" in (tmp_path / f"{rank}.txt").read_text()


def _rank(rank, port, batch, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    network = quantizer().train()
    for step in range(3):
        # rank 1 draws otherwise on purpose: starts and replacements are rank 0's
        network(batch[step].chunk(2)[rank], torch.Generator().manual_seed(step + 100 * rank))
        network.follow()
    torch.save(network.state_dict(), f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_ranks_keep_the_same_codebooks_as_one_with_two_micro_batches(tmp_path):
    batch = [torch.randn(400, 8) for _ in range(3)]
    multiprocessing.start_processes(_rank, (free_port(), batch, str(tmp_path)), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    single = quantizer().train()
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        for part in batch[step].chunk(2):
            single(part, generator)
        single.follow()
    for name, value in single.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, msg=name)

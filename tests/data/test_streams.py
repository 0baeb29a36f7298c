import math

import numpy as np
import pytest
import torch
from scipy import stats

from grokking_core.data import streams
from grokking_core.data.streams import Purpose

N = 2**16
SURE = 1e-4  # the streams are fixed: a test passes for ever or fails for ever


def key(seed=0, purpose=Purpose.INIT, step=0):
    return streams.stream(seed, purpose, step)


def keys(n, purpose=Purpose.ORDER):
    return streams.stream(torch.arange(n), purpose)


# The hash.


def test_mix_is_the_finalizer_of_splitmix64():
    """The first outputs of SplitMix64 with seed 0, as its authors' reference code prints them."""
    golden = torch.tensor([1, 2, 3]) * streams._GOLDEN
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [z % 2**64 for z in streams.mix(golden).tolist()] == expected


def test_mix_is_a_bijection_near_zero():
    assert streams.mix(torch.arange(-N, N)).unique().numel() == 2 * N


def test_mix_flips_half_of_the_bits_when_one_changes():
    z = torch.arange(2000)[:, None] * 7919
    changed = streams.mix(z) ^ streams.mix(z ^ (1 << torch.arange(63)))
    flips = np.unpackbits(changed.numpy().view(np.uint8).reshape(2000, 63, 8), axis=-1)
    assert np.abs(flips.mean(axis=(0, 2)) - 0.5).max() < 0.01  # standard error 0.0014


def test_fold_takes_a_number_and_a_tensor_alike():
    values = [0, 1, 5, -1, 2**62]
    one_by_one = torch.stack([streams.fold(key(), value) for value in values])
    assert torch.equal(one_by_one, streams.fold(key(), torch.tensor(values)))


def test_stream_keys_do_not_collide():
    seed, step = torch.arange(60)[:, None], torch.arange(1000)
    made = torch.stack([streams.stream(seed, purpose, step) for purpose in Purpose])
    assert made.unique().numel() == len(Purpose) * 60 * 1000


def test_stream_keys_do_not_mistake_seed_purpose_and_step():
    made = [key(a, Purpose(b), c).item() for a in range(7) for b in range(7) for c in range(7)]
    assert len(set(made)) == 7**3


# What the streams give never moves: these numbers are in every record.


def test_purposes_keep_their_numbers():
    names = ["SPLIT", "OUTLIERS", "INIT", "ORDER", "UPDATE_NOISE", "WEIGHT_NOISE", "DROPOUT", "PROBE"]
    assert [Purpose[name] for name in names] == list(range(8))
    assert len(Purpose) == 8


def test_draws_stay_what_they_are():
    assert key(3, Purpose.ORDER, 5).item() == 8257412216287728344
    b = streams.bits(key(), torch.arange(2))
    assert b.tolist() == [7428789128492081579, -7499818944242154208]
    u = streams.uniform(key(1), 3) * 2**24
    assert u.tolist() == [3447797, 8101779, 6698948]
    order = streams.permutation(key(2, Purpose.SPLIT), 10)
    assert order.tolist() == [8, 0, 1, 6, 9, 7, 2, 5, 3, 4]
    z = streams.normal(key(3), 3, torch.float64)
    assert z.tolist() == pytest.approx([-1.8563928214192, 0.28244677449226, 1.54105881887104])
    kept = streams.drop_mask(key(4), torch.arange(8), 0.5)
    assert kept.tolist() == [0, 1, 0, 1, 0, 0, 0, 1]


# Distributions.


def test_uniform_draws_are_uniform_multiples_of_2_to_the_minus_24():
    u = streams.uniform(key(), N, torch.float64)
    assert u.min() >= 0
    assert u.max() < 1
    assert torch.equal(u * 2**24, (u * 2**24).round())
    assert stats.kstest(u.numpy(), "uniform").pvalue > SURE
    assert u.mean() == pytest.approx(1 / 2, abs=5 * math.sqrt(1 / 12 / N))
    assert u.var() == pytest.approx(1 / 12, abs=5 * math.sqrt(1 / 180 / N))


def test_uniform_draws_are_the_same_in_float32():
    assert torch.equal(streams.uniform(key(), N).double(), streams.uniform(key(), N, torch.float64))


def test_normal_draws_are_normal():
    z = streams.normal(key(), N, torch.float64)
    assert stats.kstest(z.numpy(), "norm").pvalue > SURE
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        error = 5 * math.sqrt(variance / N)
        assert (z**power).mean().item() == pytest.approx(moment, abs=error)
    assert 4 < z.abs().max() < 4.4


def test_normal_quantiles_have_variance_one_and_no_mean():
    quantiles = streams._normal_quantiles(torch.float64, torch.device("cpu"))
    assert quantiles.square().mean().item() == pytest.approx(1, abs=1e-12)
    assert quantiles.sum().item() == pytest.approx(0, abs=1e-8)
    assert np.abs(stats.norm.cdf(quantiles) - (np.arange(N) + 0.5) / N).max() < 1e-5


@pytest.mark.parametrize("n", [1, 2, 97, 4705])
def test_permutation_repeats_and_skips_nothing(n):
    order = streams.permutation(keys(20), n)
    assert order.dtype == torch.int64
    assert torch.equal(order.sort(dim=-1).values, torch.arange(n).expand(20, n))


def test_permutation_of_four_takes_each_of_24_orders_alike():
    orders = streams.permutation(keys(24_000), 4) @ torch.tensor([64, 16, 4, 1])
    _, counts = orders.unique(return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > SURE


@pytest.mark.parametrize("purpose", [Purpose.SPLIT, Purpose.ORDER])
def test_permutation_puts_each_number_at_each_place_alike(purpose):
    n, repeats = 23, 4000
    order = streams.permutation(keys(repeats, purpose), n)
    counts = torch.stack([order[:, place].bincount(minlength=n) for place in range(n)]).double()
    statistic = ((counts - repeats / n) ** 2 / (repeats / n)).sum().item() * (n - 1) / n
    assert stats.chi2(df=(n - 1) ** 2).sf(statistic) > SURE
    assert stats.chi2(df=(n - 1) ** 2).cdf(statistic) > SURE  # nor more even than chance


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 0.999])
def test_keep_drops_the_share_it_is_asked_for(drop):
    kept = streams.drop_mask(key(), torch.arange(N), drop)
    assert kept.dtype == torch.bool
    error = 5 * math.sqrt(drop * (1 - drop) / N)
    assert (~kept).double().mean().item() == pytest.approx(drop, abs=error)


def test_keep_takes_a_share_for_each_stream():
    drop = torch.tensor([0.0, 0.25, 0.9])
    kept = streams.drop_mask(keys(3), torch.arange(N).view(256, 256), drop)
    assert kept.shape == (3, 256, 256)
    assert (~kept).double().mean(dim=(1, 2)).numpy() == pytest.approx(drop.numpy(), abs=0.01)


# Streams are of their own, whoever else draws.

PAIRS = {
    "seeds": (key(0), key(1)),
    "far seeds": (key(0), key(2**40)),
    "purposes": (key(0, Purpose.UPDATE_NOISE), key(0, Purpose.WEIGHT_NOISE)),
    "steps": (key(0, step=0), key(0, step=1)),
    "seed and step": (key(0, step=1), key(1, step=0)),
    "parameters": (streams.fold(key(), 0), streams.fold(key(), 1)),
}


@pytest.mark.parametrize("differ_in", PAIRS)
@pytest.mark.parametrize("lag", [0, 1])
def test_different_streams_are_uncorrelated(differ_in, lag):
    a, b = (streams.normal(k, N + lag, torch.float64).numpy() for k in PAIRS[differ_in])
    assert abs(np.corrcoef(a[:N], b[lag:])[0, 1]) < 4.5 / math.sqrt(N)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5])
def test_one_stream_is_uncorrelated_with_itself_later(lag):
    a = streams.normal(key(), N, torch.float64).numpy()
    assert abs(np.corrcoef(a[:-lag], a[lag:])[0, 1]) < 4.5 / math.sqrt(N)


def test_orders_of_different_epochs_are_independent():
    order = streams.permutation(streams.stream(0, Purpose.ORDER, torch.arange(200)), 97).double()
    fixed = (order[1:] == order[:-1]).double().sum(dim=1)  # mean 1, variance 1
    assert fixed.mean().item() == pytest.approx(1, abs=5 / math.sqrt(199))


DRAWS = {
    "uniform": lambda k: streams.uniform(k, 11),
    "normal": lambda k: streams.normal(k, 11),
    "permutation": lambda k: streams.permutation(k, 11),
    "keep": lambda k: streams.drop_mask(k, torch.arange(12).view(3, 4), 0.3),
}


@pytest.mark.parametrize("draw", DRAWS)
def test_draws_are_the_same_alone_and_in_company(draw):
    seeds, steps = torch.tensor([5, 0, 7]), torch.tensor([3, 1, 9])
    together = DRAWS[draw](streams.stream(seeds, Purpose.DROPOUT, steps))
    for row, seed, step in zip(together, seeds, steps, strict=True):
        assert torch.equal(row, DRAWS[draw](key(seed, Purpose.DROPOUT, step)))


@pytest.mark.parametrize("draw", [streams.uniform, streams.normal])
@pytest.mark.parametrize("n", [1, 4, 10])
def test_fewer_draws_are_the_first_of_more(draw, n):
    assert torch.equal(draw(key(), n), draw(key(), 50)[:n])


@pytest.mark.gpu
@pytest.mark.parametrize("draw", DRAWS)
def test_draws_are_the_same_on_the_gpu(draw):
    k = streams.stream(torch.arange(50), Purpose.ORDER, 3)
    assert torch.equal(DRAWS[draw](k.cuda()).cpu(), DRAWS[draw](k))


@pytest.mark.gpu
def test_long_permutations_are_the_same_on_the_gpu():
    on_gpu = streams.permutation(keys(8).cuda(), 14_400).cpu()
    assert torch.equal(on_gpu, streams.permutation(keys(8), 14_400))

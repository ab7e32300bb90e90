"""Distillation at the sizes of a toy: a BERT of one layer that nobody trained."""

import functools
import json
import sysconfig
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparta_jax as sj
from examples.distill import command, file_of, kept, parse
from examples.distillation import saved, scores, sentences
from examples.distillation.agreement import Agreement, embed, nearest
from examples.distillation.latency import latencies
from examples.distillation.moments import Moments
from examples.distillation.reconstruction import reconstruct
from examples.distillation.scores import surgeon
from examples.distillation.training import Settings, batches, recover
from examples.sentence_encoder.model import Config, SentenceEncoder

CONFIG = Config(vocabulary=40, positions=16, width=32, hidden=64, heads=2, layers=1)
BLOCK = (8, 8)


@functools.cache
def teacher():
    ids = jnp.zeros((1, 8), jnp.int32)
    return SentenceEncoder(CONFIG).init(jax.random.key(0), ids, ids == 0)["params"]


def is_none(node):
    return node is None


def encode(params, ids, mask):
    return SentenceEncoder(CONFIG).apply({"params": params}, ids, mask)


@functools.cache
def tokens(count=96, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(8) < rng.integers(3, 9, (count, 1))
    return np.where(mask, rng.integers(1, CONFIG.vocabulary, (count, 8)), 0).astype(np.int32), mask


@functools.cache
def pruned():
    worth = surgeon(CONFIG, teacher(), *tokens(), BLOCK, 0.5)
    tesa = sj.masks.by_score(teacher()["encoder"], worth, density=0.5, block=BLOCK, paths="kernel")
    return reconstruct(CONFIG, teacher(), tesa, *tokens()), tesa


def test_sentences_are_prose_of_documentation_strings():
    text = """
        The first sentence has six words. The second of them
        goes on in another line!

        >>> example = "This is no sentence of ours."

        x : int
            Too short.
        A table | is none | of our sentences.
        """
    found = list(sentences.split(textwrap.dedent(text)))
    assert found == ["The first sentence has six words.", "The second of them goes on in another line!"]


def test_no_module_is_in_both_parts_and_the_same_sentences_come_again():
    files = dict(sentences.modules_of(("numpy",)))["numpy"]
    assert files
    assert all(str(file).startswith(sysconfig.get_path("purelib")) for file in files)
    found = sentences.collect(("etils", "absl"), held_out=0.5, seed=0)
    assert found == sentences.collect(("etils", "absl"), held_out=0.5, seed=0)
    assert not set(found.train) & set(found.held_out)
    assert len(set(found.train + found.held_out)) == len(found.train + found.held_out)


def test_agreement():
    rng = np.random.default_rng(0)
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in rng.normal(size=(2, 20, 4)))
    assert vars(Agreement.of(a, a)) == pytest.approx({"cosine": 1, "low": 1, "neighbours": 1})
    cosines = [float(x @ y) for x, y in zip(a, b, strict=True)]
    assert Agreement.of(a, b).cosine == pytest.approx(np.mean(cosines))
    assert min(cosines) <= Agreement.of(a, b).low <= np.median(cosines)
    assert not any(i in row for i, row in enumerate(nearest(a, 5)))


@pytest.mark.parametrize("density", [0.0, 0.25, 1.0])
def test_solved_kernels_are_the_best_of_their_masks(density):
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(200, 16)) @ rng.normal(size=(16, 16)), rng.normal(size=(16, 8))
    tesa = sj.masks.random(w, density=density, block=(4, 4))
    solved = Moments.of(x, x @ w + 3, w).solve(tesa)
    error = lambda kernel: np.sum(np.square((x - x.mean(0)) @ (kernel - w)))
    assert not solved["kernel"][~tesa.mask].any()
    assert error(solved["kernel"]) <= error(w * tesa.mask) + 1e-9
    assert np.mean(x @ solved["kernel"] + solved["bias"], 0) == pytest.approx(np.mean(x @ w + 3, 0), rel=1e-4)


def test_a_block_that_is_zero_is_worth_nothing():
    params = jax.tree.map(np.array, teacher())
    kernel = params["encoder"]["layer_0"]["attention"]["query"]["kernel"]
    kernel[8:16, 8:16] = 0
    layer = surgeon(CONFIG, params, *tokens(), BLOCK, 0.5)["layer_0"]
    assert layer["feed_forward"]["up"]["kernel"].shape == (32, 64)
    assert layer["attention"]["query"]["bias"] is None
    worth = layer["attention"]["query"]["kernel"]
    assert not worth[8:16, 8:16].any()
    assert worth[:8].any()


def test_of_inputs_that_say_the_same_one_stays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 32)).astype(np.float32)
    x[:, 8:16] = x[:, :8] + 0.01 * x[:, 8:16]  # of these two blocks either may be missed, but not both
    kernel = rng.normal(size=(32, 8)).astype(np.float32)
    kernel[16:] *= 0.5
    survived = scores.rounds_survived(scores.inverse(x), kernel, BLOCK, 0.25)[:, 0]
    assert list(np.argsort(survived)) in ([0, 2, 3, 1], [0, 3, 2, 1], [1, 2, 3, 0], [1, 3, 2, 0])


def test_pruned_and_solved_anew_the_encoder_says_more_than_masked():
    (params, tesa), (ids, mask) = pruned(), tokens()
    for block, product in (("attention", "out"), ("feed_forward", "up")):
        kernel, live = (tree["layer_0"][block][product]["kernel"] for tree in (params["encoder"], tesa))
        assert live.density == 0.5
        assert not kernel[~live.mask].any()
    masked = jax.tree.map(lambda t, p: p if t is None else np.where(t.mask, p, 0), tesa, teacher()["encoder"], is_leaf=is_none)
    program = jax.jit(encode)
    said = lambda params: embed(functools.partial(program, params), ids, mask, 32)
    dense = said(teacher())
    cosine = lambda params: Agreement.of(said(params), dense).cosine
    assert cosine({**teacher(), "encoder": masked}) < cosine(params) < 1


def test_training_recovers_and_leaves_the_dead_dead(tmp_path):
    params, tesa = pruned()
    losses = []
    settings = Settings(steps=20, rate=3e-3, tokens=128, lengths=(4, 8))
    told = lambda step, loss: losses.append(loss)
    with jax.numpy_dtype_promotion("standard"):  # which optax needs
        found, seconds = recover(CONFIG, teacher(), params, tesa, tokens(), settings, told)
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
    assert seconds > 0
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, params)
    saved.save(tmp_path / "a" / "b.safetensors", found)
    again = saved.load(tmp_path / "a" / "b.safetensors")
    masks = saved.masks(again, BLOCK)
    assert masks["encoder"]["layer_0"]["attention"]["out"] == tesa["layer_0"]["attention"]["out"]
    ids, mask = tokens()
    (row,) = latencies(encode, teacher(), {"recovered": again}, masks, [(ids[:2], mask[:2])], rounds=1)
    assert row.keys() == {"batch", "seq", "dense", "masked recovered", "packed recovered"}


def test_batches_fit_their_length():
    data = batches(tokens(), Settings(tokens=32, lengths=(4, 8)))
    for _ in range(20):
        ids, mask = next(data)
        assert ids.shape == mask.shape
        assert ids.shape in {(8, 4), (4, 8)}
        assert mask.any(1).all()


def test_the_recorded_command_does_not_say_where_files_lie():
    said = command(["--cache", "/a", "--density", "0.5", "--json", "b", "--steps", "3"])
    assert said == "python -m examples.distill --density 0.5 --steps 3"


def test_it_goes_on_behind_what_is_in_the_results_and_in_the_cache(tmp_path):
    args = parse(["--go-on", "--block", "4", "8", "--json", str(tmp_path / "run.json"), "--cache", str(tmp_path / "cache")])
    assert kept(args) == []
    rows = [{"density": density} for density in (0.5, 0.3)]
    args.json.write_text(json.dumps({"block": [4, 8], "rows": rows}))
    saved.save(file_of(args.cache, 0.5, "recovered"), {"w": np.zeros(3, np.float32)})
    assert kept(args) == rows[:1]
    args.block = (8, 8)
    with pytest.raises(SystemExit, match="nothing to go on from"):
        kept(args)

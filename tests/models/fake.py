"""Documents made of nested units, packed into rows by hand, and a small encoder: what the tests of the models stand on."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from textfuse_jax.segments import assignment, gather, segment_mean, segment_softmax, units_of
from textfuse_jax.types import NodeRows, TokenRows, Units, parse_tap

VOCABULARY = 50


def document(*sentences):
    """A document from sentences, each a tuple of phrase lengths: ``document((2, 3), (1,))``; [CLS] and [SEP] around them."""
    return tuple(tuple(s) for s in sentences)


def tokens_of(doc, seed=0):
    """Token ids of a document: [CLS] = 1, words by its shape and the seed, [SEP] = 2."""
    n = sum(map(sum, doc))
    return np.concatenate([[1], np.random.default_rng([seed, n, *map(len, doc)]).integers(3, VOCABULARY, n), [2]])


def pack(rows, t, phrases, sentences, slots, classes=3):
    """Rows of (document, tokens) -> TokenRows of the given sizes; ``example`` counts documents in order."""
    r, n = len(rows), 0
    tokens, position = np.zeros((r, t), np.int32), np.zeros((r, t), np.int32)
    doc = np.full((r, t), slots, np.int32)
    unit = {"phrase": np.full((r, t), phrases, np.int32), "sentence": np.full((r, t), sentences, np.int32)}
    size = {"phrase": phrases, "sentence": sentences}
    owner = {scale: np.full((r, k), slots, np.int32) for scale, k in size.items()}
    parent = {"phrase": np.full((r, phrases), sentences, np.int32), "sentence": np.full((r, sentences), slots, np.int32)}
    example, label = np.full((r, slots), -1, np.int32), np.zeros((r, slots), np.int32)
    for i, row in enumerate(rows):
        at = p = s = 0
        for slot, (shape, ids) in enumerate(row):
            span = slice(at, at + len(ids))
            tokens[i, span], position[i, span], doc[i, span] = ids, np.arange(len(ids)), slot
            at += 1
            for sentence in shape:
                for length in sentence:
                    unit["phrase"][i, at : at + length], unit["sentence"][i, at : at + length] = p, s
                    owner["phrase"][i, p], parent["phrase"][i, p] = slot, s
                    at, p = at + length, p + 1
                owner["sentence"][i, s], parent["sentence"][i, s] = slot, slot
                s += 1
            at += 1
            example[i, slot], label[i, slot] = n, n % classes
            n += 1
    j = jnp.asarray
    return TokenRows(
        tokens=j(tokens),
        position=j(position),
        document=j(doc),
        unit={k: j(v) for k, v in unit.items()},
        units={k: Units(j(owner[k]), j(parent[k])) for k in unit},
        label=j(label),
        weight=j((example >= 0).astype(np.float32)),
        example=j(example),
    )


def init(module, *args, **kwargs):
    """Random parameters of a module, of the shapes of its own; only traced, since compiling takes tests their time.

    Running variances are positive: of a negative one everything would be NaN, and NaN is close to NaN.
    """
    shapes = jax.eval_shape(lambda key: module.init(key, *args, **kwargs), jax.random.key(0))
    rng = np.random.default_rng(0)

    def drawn(path, x):
        values = 0.4 * rng.normal(size=x.shape)
        return jnp.asarray(np.abs(values) + 0.5 if path[-1].key == "running_variance" else values, x.dtype)

    return jax.tree_util.tree_map_with_path(drawn, shapes)


class FakeEncoder(nn.Module):
    """Embeds tokens, mixes them with their document's mean (so that context matters), and gives taps by segment means."""

    taps: tuple[str, ...]
    width: int = 12

    @nn.compact
    def __call__(self, rows, *, train):
        h = nn.Embed(VOCABULARY, self.width)(rows.tokens) + jnp.sin(
            rows.position[..., None] / (1 + jnp.arange(self.width)[None, None])
        )
        out, taps = {}, {}
        depths = [parse_tap(tap)[0] for tap in self.taps]
        for layer in range(1 + max(depths)):
            if layer:
                context = segment_mean(h, rows.document, rows.slots)
                h = jnp.tanh(nn.Dense(self.width)(h) + gather(context, rows.document))
            for depth, tap in zip(depths, self.taps):
                if depth == layer:
                    scale = parse_tap(tap)[1]
                    ids = assignment(rows, scale)
                    taps[tap] = segment_mean(h, ids, units_of(rows, scale).document.shape[1])
        weight = segment_softmax(h.sum(-1, keepdims=True), rows.document, rows.slots)[..., 0]
        out["encoder/saliency"] = weight
        return taps, out


def graph(features, document, slots, level=None, parent=None, saliency=None, edges=((),)):
    """NodeRows from lists; ``edges`` holds for each row a list of (sender, receiver, weight)."""
    features = jnp.asarray(features, jnp.float32)
    r, u = features.shape[:2]
    e = max(len(row) for row in edges)
    ends = np.full((r, e, 2), u, np.int32)
    weight = np.zeros((r, e), np.float32)
    for i, row in enumerate(edges):
        for j, (a, b, w) in enumerate(row):
            ends[i, j], weight[i, j] = (a, b), w
    return NodeRows(
        features=features,
        document=jnp.asarray(document, jnp.int32),
        level=jnp.zeros((r, u), jnp.int32) if level is None else jnp.asarray(level, jnp.int32),
        parent=jnp.full((r, u), u, jnp.int32) if parent is None else jnp.asarray(parent, jnp.int32),
        saliency=jnp.zeros((r, u)) if saliency is None else jnp.asarray(saliency, jnp.float32),
        senders=jnp.asarray(ends[..., 0]),
        receivers=jnp.asarray(ends[..., 1]),
        weight=jnp.asarray(weight),
        slots=slots,
    )


def edge_set(nodes, row=0):
    """The edges of a row as {(sender, receiver): weight}; fails on a pair that comes twice."""
    u, found = nodes.document.shape[1], {}
    for a, b, w in zip(*(np.asarray(x[row]).tolist() for x in (nodes.senders, nodes.receivers, nodes.weight))):
        if a == u or b == u:
            assert (a, b, w) == (u, u, 0), "a padding edge must be (u, u, 0)"
            continue
        assert (a, b) not in found, f"edge {a, b} comes twice"
        found[a, b] = w
    return found

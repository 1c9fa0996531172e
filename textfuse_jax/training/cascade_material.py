"""What a training reads of cascades: what is known of every post, once, on the device; batches only say which post is where.

Phase 1 features of the frozen encoder (cached), hashed words and times; phase 2 the posts chosen; phase 3 their rewritten texts,
encoded. All of it is independent of labels and folds. What a message passing then makes of it is the model's
(``models.node_classifier``).
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.utils import murmurhash3_32

from textfuse_jax.config import data_seed
from textfuse_jax.config_checks import ConfigError
from textfuse_jax.data.cascade_protocols import CascadeCorpus, split_of
from textfuse_jax.data.cascade_rows import cascade_batches
from textfuse_jax.data.cascades import Cascades
from textfuse_jax.data.corpus import TEST, TRAIN, Split
from textfuse_jax.data.pipeline import Batches
from textfuse_jax.data.selection import select
from textfuse_jax.encoders.architecture import read_architecture
from textfuse_jax.encoders.checkpoints import locate
from textfuse_jax.encoders.tokenizers import save_tokenizer
from textfuse_jax.evaluation.probes import constant, probes
from textfuse_jax.models.lexical import NO_WORD
from textfuse_jax.models.node_classifier import NodeClassifier, build_node_classifier, look_up
from textfuse_jax.models.post_inputs import BUCKETS
from textfuse_jax.training import assembly, setup
from textfuse_jax.training.augmentation import UNASKED, rewrite, unasked
from textfuse_jax.training.cascade_drawings import cascade_graphs
from textfuse_jax.training.material import Folds
from textfuse_jax.training.step import flatten

PREFIX = "posts/"
REWRITTEN = "rewritten"
"""Folder of an exported model that holds the tokenizer of rewritten texts, and name of their encoder's parameters."""


class Encoders(NamedTuple):
    """The frozen encoders of a run of cascades.

    Attributes:
      posts: of the posts as they are; None where ``config.cascades.inputs`` has no "encoder".
      rewritten: of rewritten texts; None without a fusion. The same object as ``posts`` where both are one checkpoint.
    """

    posts: setup.TextEncoder | None = None
    rewritten: setup.TextEncoder | None = None

    @property
    def sentence(self) -> str:
        """The tap of a rewritten text: the mean of the last layer. Made as long as 1, all-MiniLM-L6-v2's sentence embedding."""
        return f"{self.rewritten.architecture.layers:02d}/document"


@dataclasses.dataclass(frozen=True)
class CascadeMaterial:
    """Cascades, and arrays over all of their posts.

    Attributes:
      corpus: with the cascades, roles and members of splits.
      posts: name -> array [posts, ...], as ``models.post_inputs`` reads it.
      facts: of selection and augmentation, for every result.
      encoders: of the features.
    """

    corpus: CascadeCorpus
    posts: Mapping[str, np.ndarray]
    facts: dict[str, Any]
    encoders: Encoders

    layers = 0
    size_name = "cascade size", "posts"

    def split(self, name: str) -> Split:
        """The cascades of a split, or of "all"."""
        return split_of(self.corpus.cascades) if name == "all" else getattr(self.corpus, name)

    def cascades(self, split: str) -> Cascades:
        """The cascades of a split."""
        whole = self.corpus.cascades
        return whole if split == "all" else whole.take(self.corpus.members[split])

    def train_batches(self, config, split: str = "train", **share) -> Batches:
        """Shuffled batches of all epochs. Those of "all" are larger by what each fold leaves out, so that a step learns from
        as many cascades on average.
        """
        size = config.cascades.batch_size
        if split == "all":
            size = round(size / max((self.corpus.roles & TRAIN > 0).mean(), 0.05))
        options = dict(epochs=config.training.total_epochs, seed=data_seed(config), prefetch=config.data.prefetch)
        options |= dict(batch_size=size, direction=config.cascades.direction, uniform=True)
        return cascade_batches(self.cascades(split), None, **options, **share)

    def held_batches(self, config, split: str, **share) -> Batches:
        """Every cascade of a split once; twice as many a batch, as nothing is kept for gradients."""
        size = 2 * config.cascades.batch_size
        return cascade_batches(
            self.cascades(split), None, batch_size=size, direction=config.cascades.direction, uniform=True, **share
        )

    def folds(self, config) -> Folds:
        """The protocol's."""
        return Folds("all", self.corpus.roles)

    def make_model(self, config) -> NodeClassifier:
        """The model of a config."""
        return build_node_classifier(config.model, len(self.corpus.class_names))

    def init_params(self, config, model, rows) -> dict[str, jax.Array]:
        """Random parameters."""
        few = {name: np.zeros((1, *values.shape[1:]), values.dtype) for name, values in self.posts.items()}
        return assembly.init_params(model, look_up(rows, jax.tree.map(jax.numpy.asarray, few)), config.seed, None)

    def constants(self) -> dict[str, np.ndarray]:
        """The arrays over all posts."""
        return {PREFIX + name: values for name, values in self.posts.items()}

    def apply(self, model) -> Callable:
        """The model on rows whose posts are looked up among the constants."""

        def forward(params, rows, *, train, rngs=None):
            own = {name: value for name, value in params.items() if name != PREFIX[:-1]}
            rows = look_up(rows, params[PREFIX[:-1]])
            return model.apply({"params": own}, rows, train=train, rngs=rngs)

        return forward

    def is_frozen(self, config, name: str) -> bool:
        """Nothing but the constants."""
        return False

    def notes(self) -> dict[str, Any]:
        """Selection, augmentation, posts, the cascades on which the epoch is chosen, and the encoders."""
        chosen_on = "test" if self.corpus.chosen_on_test else "validation"
        found = {"posts": len(self.corpus.cascades.texts), "chosen_on": chosen_on, **self.facts}
        posts, rewritten = self.encoders
        found |= {"encoder_fingerprint": posts.fingerprint} if posts else {}
        return found | ({"rewritten_fingerprint": rewritten.fingerprint} if rewritten else {})

    def told(self, config) -> str:
        """Posts, and which were rewritten by whom."""
        told = f"{len(self.corpus.cascades.texts):,} posts, the largest cascade {self.corpus.cascades.sizes.max():,}"
        if "augmentation" in self.facts:
            told += f"; {self.facts['selection']['selected']:,} selected, rewritten by: {self.facts['augmentation']['source']}"
        return told

    def sizes(self, split: str) -> np.ndarray:
        """Posts of each cascade."""
        return self.cascades(split).sizes

    def references(self, folds: bool = False) -> dict[str, dict[str, float]]:
        """The constant answer, and forests on the ids and on the times alone (``evaluation.probes``)."""
        roles = self.corpus.roles
        if not folds:
            roles = np.zeros((1, len(self.corpus.cascades)), np.int8)
            for name, role in (("train", TRAIN), ("test", TEST)):
                roles[0, self.corpus.members[name]] |= role
        labels, found = self.corpus.cascades.labels, probes(self.corpus, roles)
        return {"constant": constant(labels, roles)} | {name: metrics for name, metrics in found.items() if metrics}

    def drawings(self, config, model, params, probabilities):
        """See ``cascade_drawings.cascade_graphs``."""
        return cascade_graphs(config, self, model, params, probabilities)

    def export(self, folder: pathlib.Path, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Writes the tokenizers; the encoders join the parameters, and how posts were read the facts."""
        cascades = self.corpus.cascades
        posts = {k: self.facts[k] for k in ("selection", "augmentation") if k in self.facts}
        posts |= {"bags": cascades.bags is not None, "blank": not all(text.strip() for text in cascades.texts)}
        facts: dict[str, Any] = {"posts": posts}
        ours, rewritten = self.encoders
        if rewritten is not None and rewritten is not ours:
            (folder / REWRITTEN).mkdir(parents=True, exist_ok=True)
            save_tokenizer(rewritten.tokenizer, folder / REWRITTEN)
            params |= flatten({REWRITTEN: rewritten.params})
            posts[REWRITTEN] = dataclasses.asdict(rewritten.architecture)
        if ours is not None:
            save_tokenizer(ours.tokenizer, folder)
            params |= flatten({"encoder": ours.params})
            facts["architecture"] = dataclasses.asdict(ours.architecture)
        return params, facts


def prepare(config, corpus: CascadeCorpus, say: Callable[[str], None], run: str = "") -> CascadeMaterial:
    """Features, selection and rewritten texts of all posts of a corpus; ``run`` as in ``augmentation.rewrite``.

    Raises:
      ConfigError, DataError, CheckpointNotFound: as ``posts_of``, ``setup.load_text_encoder``.
    """
    encoders = load_encoders(config)
    posts, facts = posts_of(config, corpus.cascades, encoders, say, run)
    return CascadeMaterial(corpus, posts, facts, encoders)


def load_encoders(config) -> Encoders:
    """The frozen encoders, with the layers that posts and rewritten texts are read by.

    Raises:
      ConfigError: there are no pretrained weights to read posts by.
      CheckpointNotFound, ValueError: as ``setup.load_text_encoder``.
    """
    c, taps = config.cascades, set()
    if "encoder" in c.inputs:
        if config.encoder.checkpoint == "scratch":
            raise ConfigError('an encoder of posts needs weights; from scratch take config.cascades.inputs=("words",)')
        wrong = [tap for tap in c.taps if not tap.endswith("/document")]
        if wrong:
            raise ConfigError(f"config.cascades.taps must be of scale document, one vector a post, got {wrong[0]!r}")
        taps = set(c.taps)
    if not config.model.fusion:
        return Encoders(setup.load_text_encoder(config, (), taps=sorted(taps)) if taps else None)
    other = config.copy_and_resolve_references()
    other.encoder.checkpoint = c.augmentation.encoder
    one = taps and c.augmentation.encoder == config.encoder.checkpoint
    if not one:
        other.encoder.sha256 = ""
    last = f"{read_architecture(locate(c.augmentation.encoder)).layers:02d}/document"
    rewritten = setup.load_text_encoder(other, (), taps=sorted(taps | {last}) if one else (last,))
    if one or not taps:
        return Encoders(rewritten if one else None, rewritten)
    return Encoders(setup.load_text_encoder(config, (), taps=sorted(taps)), rewritten)


def posts_of(
    config, cascades: Cascades, encoders: Encoders, say: Callable[[str], None], run: str = ""
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays over all posts by name, and facts about selection and augmentation.

    Args:
      cascades: of which nothing was taken away: ``cascades.post`` counts from 0.
      run: as in ``augmentation.rewrite``.
    """
    c, facts = config.cascades, {}
    posts: dict[str, np.ndarray] = {}
    bare = np.array([not text.strip() for text in cascades.texts])
    if "encoder" in c.inputs:
        found = _encoded(config, encoders.posts, cascades.name, cascades.texts, c.taps, say)
        joined = np.concatenate([found[tap] for tap in c.taps], axis=1)
        joined[bare] = 0
        posts["encoder"] = joined
    if "words" in c.inputs:
        posts["words"] = hashed_words(cascades.bags or cascades.texts, c.most_words, c.characters)
    if "source" in c.inputs:
        posts["source"] = np.full((len(cascades.texts), c.most_source_words), NO_WORD, np.int32)
        texts = [cascades.texts[i] for i in cascades.sources]
        posts["source"][cascades.sources] = hashed_words(texts, c.most_source_words, c.characters, NO_WORD, pairs=False)
    if "time" in c.inputs:
        known = ~np.isnan(cascades.minutes)
        posts["time"] = np.stack([np.log1p(np.where(known, np.maximum(cascades.minutes, 0), 0)) / 5, known], 1).astype(np.float32)
    if not config.model.fusion:
        return posts, facts
    looks = posts.get("encoder")
    if looks is None:
        looks = _sentences(config, encoders, cascades.name, cascades.texts, say)
    selected, facts["selection"] = select(cascades, looks, **c.selection, seed=data_seed(config))
    say("selection: " + ", ".join(f"{name} {value}" for name, value in facts["selection"].items()))
    rewritten = rewrite(config, cascades, selected, say, run)
    facts["augmentation"] = rewritten.facts
    posts["augmented"] = np.zeros((len(cascades.texts), encoders.rewritten.architecture.width), np.float16)
    posts["selected"] = np.zeros(len(cascades.texts), bool)
    if len(rewritten.posts):
        if c.augmentation.source in UNASKED:  # of all posts, whichever are selected: from one cache
            name = cascades.name + ("" if c.augmentation.source == "original" else f"-{c.augmentation.source}")
            vectors = _sentences(config, encoders, name, unasked(cascades, c.augmentation.source), say)[rewritten.posts]
        else:
            name = f"{cascades.name}-{rewritten.facts['source'].split(' ')[0]}"
            vectors = _sentences(config, encoders, name, rewritten.texts, say)
        vectors = np.asarray(vectors, np.float32)
        posts["augmented"][rewritten.posts] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        posts["selected"][rewritten.posts] = True
    return posts, facts


_LINK, _LATIN = re.compile(r"(?i)https?:\S*"), re.compile(r"[^\W_]+|[^\w\s]")


def hashed_words(
    texts: Sequence[str], most: int, characters: bool = False, below: int = BUCKETS, pairs: bool = True
) -> np.ndarray:
    """The first ``most`` words of each text as numbers less than ``below``, int32 [k, most], ``below`` where there is none.

    Words are runs of letters and digits, and single signs, in lower case; links, which differ from copy to copy, are all one
    word. With ``characters`` they are characters, and with ``pairs`` pairs of them. MurmurHash3 gives their numbers, so that
    new texts need no vocabulary; words that share a number share a vector.
    """
    found, known = np.full((len(texts), most), below, np.int32), {}
    for i, text in enumerate(texts):
        text = _LINK.sub(" http ", text)
        if characters:
            words = [w for one in zip(text, text[1:] + " ") for w in (one[0], "".join(one))[: 1 + pairs] if w.strip()]
        else:
            words = _LATIN.findall(text.lower())
        for j, word in enumerate(words[:most]):
            if word not in known:
                known[word] = murmurhash3_32(word, positive=True) % below
            found[i, j] = known[word]
    return found


def _sentences(config, encoders: Encoders, name: str, texts: Sequence[str], say) -> np.ndarray:
    """The embeddings of texts by the encoder of rewritten texts, of any length."""
    return _encoded(config, encoders.rewritten, name, texts, (encoders.sentence,), say)[encoders.sentence]


def _encoded(config, encoder, name: str, texts: Sequence[str], taps: Sequence[str], say) -> dict[str, np.ndarray]:
    """Features of texts by the frozen encoder, from its cache."""
    parts = setup.encode_split(config, encoder.tokenizer, texts)
    if len(parts) != len(texts):
        raise ConfigError('config.data.long_documents must be "truncate" for cascades: a post is one vector')
    name = f"{name.split(':')[0]}-posts"
    return setup.cached_features(config, encoder, {name: parts}, say, taps)[name]

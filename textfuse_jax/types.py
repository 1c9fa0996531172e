"""The types that all parts share, and the legend of their dimensions.

Legend, used in every shape in this package:

    r  rows of a batch             t  tokens a row holds        s  document slots a row holds
    u  units (graph nodes) a row   e  edges a row holds         d  feature width
    c  classes                     n  documents of a split     m  members (an encoder, LLMs)

A *document* gets one prediction, a *unit* is a piece of it, a *row* is what the device sees. Several
documents share a row. Indices of tokens, units and documents are local to their row, and padding points
one past the end: a padding token has ``document == s``, a padding unit ``document == s``, a padding edge
``senders == receivers == u``. So a reduction over ``k + 1`` segments whose last is dropped never sees padding.

Units are a nested hierarchy: token < phrase < sentence < document. ``[CLS]``, ``[SEP]`` and their like
belong to the scales *token* and *document* but to no phrase and no sentence.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

SCALES = ("token", "phrase", "sentence", "document")
"""The scales from fine to coarse; a unit of one scale lies inside one unit of every coarser scale."""

Out = dict[str, Any]
"""Named intermediates of a module, ``part/name`` -> array; XLA deletes those that nobody reads."""

OPINIONS = "opinions"
"""What a model puts out where its logits are the mean of those of parts that predict by themselves: a tuple of theirs, [r, s, c]
each. A training step then takes the sum of the parts' losses, so that each learns from its own mistakes."""


@struct.dataclass
class Units:
    """The units of one scale in packed rows.

    Attributes:
      document: slot of each unit's document; ``s`` for a padding unit.
      parent: for each unit, the index of the unit of the *next coarser scale in the batch* that holds it;
        that scale's number of units for padding. At the coarsest scale every entry is 0 and unread.
    """

    document: Int[Array, "r u"]
    parent: Int[Array, "r u"]


@struct.dataclass
class TokenRows:
    """Several documents packed into rows of tokens: what the pipeline yields and every model reads.

    Attributes:
      tokens: vocabulary ids; the pad id in padding.
      position: position of each token in its own document, from 0; 0 in padding.
      document: slot of each token's document; ``s`` in padding.
      unit: scale -> unit of each token, ``u`` of that scale for padding and for tokens outside the scale
        ([CLS] has no phrase). Holds the scales phrase and sentence; token and document follow from the rest,
        read all four by ``assignment``.
      units: scale -> Units, for the scales phrase and sentence; read all four by ``units_of``.
      label: class of each slot, int [r, s], or multi-hot float [r, s, c]; 0 in empty slots.
      weight: weight of each slot in loss and metrics; 0 in empty slots.
      example: index of the slot's document in its split; -1 in empty slots. Windows of one long
        document repeat its index.
      features: cached encoder features, tap name (``"06/phrase"``) -> float [r, u, d]; empty unless cached.
    """

    tokens: Int[Array, "r t"]
    position: Int[Array, "r t"]
    document: Int[Array, "r t"]
    unit: dict[str, Int[Array, "r t"]]
    units: dict[str, Units]
    label: Int[Array, "r s"] | Float[Array, "r s c"]
    weight: Float[Array, "r s"]
    example: Int[Array, "r s"]
    features: dict[str, Array] = struct.field(default_factory=dict)

    @property
    def slots(self) -> int:
        """Number of document slots a row, s."""
        return self.weight.shape[1]


@struct.dataclass
class NodeRows:
    """Nodes and edges of the graphs in packed rows: text units and reply cascades meet here.

    Attributes:
      features: node features.
      document: slot of each node's document; ``s`` for a padding node.
      level: which scale a node belongs to, 0 the finest; edges such as ``window`` join one level only.
      parent: node that holds this node (its sentence, the post it replies to); ``u`` for none.
      saliency: weight of a node in its document, >= 0; 0 for padding. Zeros where nothing is known.
      senders, receivers: ends of each edge, ``u`` for padding edges. Both lie in one document.
      weight: edge weights; 0 for padding edges.
      edge: a vector for each edge; those of padding edges aren't read. None: edges are told by their weights alone.
      slots: number of document slots a row, s (static): tells padding nodes, ``document == slots``, from the others.
      time: minutes of each node since its document's first; -1 where that isn't known; None: nodes without times.
    """

    features: Float[Array, "r u d"]
    document: Int[Array, "r u"]
    level: Int[Array, "r u"]
    parent: Int[Array, "r u"]
    saliency: Float[Array, "r u"]
    senders: Int[Array, "r e"]
    receivers: Int[Array, "r e"]
    weight: Float[Array, "r e"]
    slots: int = struct.field(pytree_node=False)
    time: Float[Array, "r u"] | None = None
    edge: Float[Array, "r e f"] | None = None


@struct.dataclass
class CascadeRows:
    """Several cascades packed into rows of posts, with their labels: what cascade pipelines yield and models read.

    Attributes:
      nodes: the posts, with the edges of the replies; features of width 0 where the model is to gather them by ``post``.
      post: index of each node's post among all posts, one past the last in padding.
      label, weight, example: of each slot, as in ``TokenRows``.
      inputs: what is known of each post by name, [r, u, ...], looked up by ``post``: see ``models.post_inputs``.
    """

    nodes: NodeRows
    post: Int[Array, "r u"]
    label: Int[Array, "r s"]
    weight: Float[Array, "r s"]
    example: Int[Array, "r s"]
    inputs: dict[str, Array] = struct.field(default_factory=dict)

    @property
    def document(self) -> Int[Array, "r u"]:
        """Slot of each post's cascade; ``s`` in padding."""
        return self.nodes.document

    @property
    def slots(self) -> int:
        """Number of slots a row, s."""
        return self.nodes.slots


def tap_name(layer: int, scale: str) -> str:
    """Name of the features of encoder layer ``layer`` at ``scale``: ``tap_name(6, "phrase") == "06/phrase"``.

    Layer 0 is the embedding output, layer L the last.
    """
    return f"{layer:02d}/{scale}"


def parse_tap(name: str) -> tuple[int, str]:
    """Inverse of ``tap_name``."""
    layer, scale = name.split("/")
    return int(layer), scale


@struct.dataclass
class OpinionRows:
    """What an encoder and LLMs say of documents, beside their labels: what fusion models of class scores read.

    Attributes:
      evidence: of each member for each class, log-odds up to a constant; 0 where a member is missing.
      present: whether a member has an opinion of the document; False in empty slots.
      vector: of each document; width 0 where the fusion reads scores alone.
      label, weight, example: of each slot, as in ``TokenRows``.
    """

    evidence: Float[Array, "r s m c"]
    present: Bool[Array, "r s m"]
    vector: Float[Array, "r s d"]
    label: Int[Array, "r s"] | Float[Array, "r s c"]
    weight: Float[Array, "r s"]
    example: Int[Array, "r s"]

    @property
    def document(self) -> Int[Array, "r s"]:
        """Slot of each opinion's document: its own; ``s`` in empty slots."""
        return jnp.where(self.example >= 0, jnp.arange(self.slots)[None], self.slots)

    @property
    def slots(self) -> int:
        """Number of slots a row, s."""
        return self.weight.shape[1]

"""The whole Pyramid-GNN in PyTorch, transformers and PyTorch Geometric, as their users would write it: for parity and speed."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np
import torch
from torch_geometric.nn import GCNConv
from torch_geometric.utils import coalesce, scatter, softmax, to_dense_batch
from transformers import AutoModel

from textfuse_jax.data.tokenize import Encoded

LAYERS = (2, 4, 6)  # phrases of layer 2, sentences of layer 4, documents of layer 6


class PyramidGNN(torch.nn.Module):
    """The model of configs/agnews_pyramid.py: same parts, same widths, same edges.

    Args:
      folder: checkpoint of the encoder.
      classes: number of logits.
      dropout: rates of pyramid, message passing and head.
    """

    def __init__(
        self, folder: pathlib.Path, classes: int, width: int = 384, dropout: tuple[float, float, float] = (0.1, 0.1, 0.3)
    ):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder)
        size = self.encoder.config.hidden_size
        linear, norm = torch.nn.Linear, torch.nn.LayerNorm
        self.levels = torch.nn.ModuleList([linear(size, width) for _ in LAYERS])
        self.level_norms = torch.nn.ModuleList([norm(width, eps=1e-6) for _ in LAYERS])
        self.projections = torch.nn.ModuleList([linear(len(LAYERS) * width, width) for _ in range(2)])
        self.rounds = torch.nn.ModuleList([GCNConv(width, width) for _ in range(2)])
        self.round_norms = torch.nn.ModuleList([norm(width, eps=1e-6) for _ in range(2)])
        self.key = torch.nn.Parameter(torch.randn(width, width) / width**0.5)
        self.query = torch.nn.Parameter(torch.randn(width))
        self.head = linear(width + size, classes)
        self.dropout = dropout

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Logits [documents, classes] of a batch made by ``collate``."""
        functional, on = torch.nn.functional, self.training
        hidden = self.encoder(input_ids=batch["tokens"], attention_mask=batch["mask"], output_hidden_states=True).hidden_states
        documents, phrases, sentences = len(batch["tokens"]), len(batch["phrase_sentence"]), len(batch["sentence_document"])
        phrase_document = batch["sentence_document"][batch["phrase_sentence"]]

        def units(layer: int, of: torch.Tensor, count: int) -> torch.Tensor:
            inside = of >= 0
            return scatter(hidden[layer][inside], of[inside], dim_size=count, reduce="mean")

        mask = batch["mask"][..., None]
        taps = [
            units(LAYERS[0], batch["phrase"], phrases),
            units(LAYERS[1], batch["sentence"], sentences),
            (hidden[LAYERS[2]] * mask).sum(1) / mask.sum(1),
        ]
        up = [batch["phrase_sentence"], batch["sentence_document"]]
        pyramid: list[torch.Tensor] = []
        for i in reversed(range(len(LAYERS))):
            f = self.levels[i](taps[i])
            if pyramid:
                f = f + pyramid[0][up[i]]
            f = functional.dropout(functional.gelu(self.level_norms[i](f), approximate="tanh"), self.dropout[0], on)
            pyramid.insert(0, f)
        fine, middle, coarse = pyramid
        down = scatter(fine, batch["phrase_sentence"], dim_size=sentences, reduce="mean")
        x = torch.cat(
            [
                self.projections[0](torch.cat([fine, middle[up[0]], coarse[phrase_document]], -1)),
                self.projections[1](torch.cat([down, middle, coarse[up[1]]], -1)),
            ]
        )
        document = torch.cat([phrase_document, batch["sentence_document"]])
        edges, weight = self.edges(x, batch, phrases)
        for layer, norm in zip(self.rounds, self.round_norms):
            update = functional.dropout(functional.relu(layer(x, edges, weight)), self.dropout[1], on)
            x = norm(x + update)
        beta = softmax(x @ (self.key @ self.query) / self.query.shape[0] ** 0.5, document, num_nodes=documents)
        mean = scatter(x, document, dim_size=documents, reduce="mean")
        attended = scatter(beta[:, None] * x, document, dim_size=documents, reduce="sum")
        z = torch.cat([0.5 * mean + 0.5 * attended, taps[2]], -1)
        return self.head(functional.dropout(z, self.dropout[2], on))

    def edges(self, x: torch.Tensor, batch: Mapping[str, torch.Tensor], phrases: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Window of 2, 4 nearest neighbours by cosine, and hierarchy; each pair once with its largest weight."""
        document = batch["sentence_document"]
        parts, weights = [], []
        for first, of in ((0, document[batch["phrase_sentence"]]), (phrases, document)):
            count = len(of)
            for shift in (1, 2):
                left = torch.arange(max(count - shift, 0))
                left = left[of[left] == of[left + shift]] + first
                parts += [torch.stack([left, left + shift]), torch.stack([left + shift, left])]
                weights += [torch.ones(len(left))] * 2
            dense, held = to_dense_batch(torch.nn.functional.normalize(x[first : first + count]), of)
            cosine = dense @ dense.transpose(1, 2)
            cosine = cosine.masked_fill(~(held[:, :, None] & held[:, None]), -2)
            cosine = cosine.masked_fill(torch.eye(cosine.shape[1], dtype=torch.bool), -2)
            value, neighbour = cosine.topk(min(4, cosine.shape[1]), dim=-1)
            place = torch.full(held.shape, -1).masked_scatter(held, torch.arange(count)) + first
            keep = value > 0
            receiver = place[:, :, None].expand_as(neighbour)[keep]
            sender = torch.gather(place[:, None].expand(-1, neighbour.shape[1], -1), 2, neighbour)[keep]
            parts.append(torch.stack([sender, receiver]))
            weights.append(value[keep])
        child, parent = torch.arange(phrases), batch["phrase_sentence"] + phrases
        parts += [torch.stack([child, parent]), torch.stack([parent, child])]
        weights += [torch.ones(phrases)] * 2
        return coalesce(torch.cat(parts, 1), torch.cat(weights), reduce="max")

    def load(self, params: Mapping[str, np.ndarray]) -> None:
        """Takes over our flat parameters of everything behind the encoder."""

        def set_linear(module, name: str) -> None:
            module.weight.copy_(torch.tensor(np.array(params[f"{name}/kernel"]).T))
            if module.bias is not None:
                module.bias.copy_(torch.tensor(np.array(params[f"{name}/bias"])))

        with torch.no_grad():
            for i, level in enumerate(self.levels):
                set_linear(level, f"pyramid/level_{i}")
            for scale, projection in zip(("phrase", "sentence"), self.projections):
                set_linear(projection, f"pyramid/project_{scale}")
            for k, layer in enumerate(self.rounds):
                layer.lin.weight.copy_(torch.tensor(np.array(params[f"propagate/linear_{k}/kernel"]).T))
                layer.bias.copy_(torch.tensor(np.array(params[f"propagate/bias_{k}"])))
            self.key.copy_(torch.tensor(np.array(params["pooling/attention/key"])))
            self.query.copy_(torch.tensor(np.array(params["pooling/attention/query"])))
            set_linear(self.head, "head/logits")


def collate(encoded: Encoded, pieces: np.ndarray, pad_id: int) -> dict[str, torch.Tensor]:
    """Padded tokens of some documents and their units: of each token its phrase and sentence in the batch, -1 for none."""
    lengths = encoded.lengths[pieces]
    shape = (len(pieces), int(lengths.max()))
    tokens, mask = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64)
    unit = {"phrase": np.full(shape, -1, np.int64), "sentence": np.full(shape, -1, np.int64)}
    before = {scale: np.cumsum(encoded.counts[scale][pieces]) - encoded.counts[scale][pieces] for scale in unit}
    phrase_sentence, bounds = [], encoded.unit_bounds("phrase")
    for row, piece in enumerate(pieces):
        here = slice(encoded.bounds[piece], encoded.bounds[piece + 1])
        tokens[row, : lengths[row]], mask[row, : lengths[row]] = encoded.tokens[here], 1
        for scale, of in unit.items():
            local = encoded.unit[scale][here]
            of[row, : lengths[row]] = np.where(local < 0, -1, local + before[scale][row])
        phrase_sentence.append(encoded.phrase_sentence[bounds[piece] : bounds[piece + 1]] + before["sentence"][row])
    made = {"tokens": tokens, "mask": mask, **unit}
    made["phrase_sentence"] = np.concatenate(phrase_sentence)
    made["sentence_document"] = np.repeat(np.arange(len(pieces)), encoded.counts["sentence"][pieces])
    return {name: torch.as_tensor(np.asarray(values, np.int64)) for name, values in made.items()}

"""The graph classifiers in PyTorch Geometric, as its users write them: what ours is checked against and timed beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GATConv, GCNConv, global_mean_pool

from textfuse_jax.data.cascades import Cascades


class Net(torch.nn.Module):
    """Two rounds of GCN or of GAT with four heads, ReLU, mean pooling and a linear head; dropout after each."""

    def __init__(self, kind: str, features: int, width: int, classes: int, dropout: float):
        super().__init__()
        if kind == "gcn":
            self.rounds = torch.nn.ModuleList([GCNConv(features, width), GCNConv(width, width)])
        else:
            self.rounds = torch.nn.ModuleList([GATConv(d, width // 4, heads=4) for d in (features, width)])
        self.head = torch.nn.Linear(width, classes)
        self.dropout = dropout

    def forward(self, x, edge_index, batch, size: int):
        """Logits of each of ``size`` graphs."""
        functional = torch.nn.functional
        for layer in self.rounds:
            x = functional.dropout(functional.relu(layer(x, edge_index)), self.dropout, self.training)
        return self.head(functional.dropout(global_mean_pool(x, batch, size), self.dropout, self.training))

    def load(self, params: Mapping[str, np.ndarray]) -> None:
        """Takes over the flat parameters of our ``NodeClassifier``."""
        with torch.no_grad():
            for k, layer in enumerate(self.rounds):
                linear = layer.lin.weight
                linear.copy_(torch.tensor(np.array(params[f"propagate/linear_{k}/kernel"]).T))
                layer.bias.copy_(torch.tensor(np.array(params[f"propagate/bias_{k}"])))
                if isinstance(layer, GATConv):
                    layer.att_src.copy_(torch.tensor(np.array(params[f"propagate/sender_{k}"]))[None])
                    layer.att_dst.copy_(torch.tensor(np.array(params[f"propagate/receiver_{k}"]))[None])
            self.head.weight.copy_(torch.tensor(np.array(params["head/logits/kernel"]).T))
            self.head.bias.copy_(torch.tensor(np.array(params["head/logits/bias"])))


def reply_edges(parent: np.ndarray) -> np.ndarray:
    """Each reply both ways, int [2, e]."""
    child = np.flatnonzero(parent >= 0)
    return np.stack([np.r_[parent[child], child], np.r_[child, parent[child]]])


def window_edges(parent: np.ndarray, size: int = 2) -> np.ndarray:
    """Each node with those up to ``size`` places away, int [2, e]."""
    n = len(parent)
    pairs = [(i, j) for i in range(n) for j in range(max(0, i - size), min(n, i + size + 1)) if i != j]
    return np.array(pairs, np.int64).reshape(-1, 2).T


def graphs(cascades: Cascades, features: np.ndarray, edges: Callable[[np.ndarray], np.ndarray] = reply_edges) -> list[Data]:
    """One Data for each cascade, built beforehand."""
    return [
        Data(
            x=torch.from_numpy(features[cascades.bounds[i] : cascades.bounds[i + 1]]),
            edge_index=torch.as_tensor(edges(cascades[i].parent), dtype=torch.long),
            y=torch.tensor([int(cascades.labels[i])]),
        )
        for i in range(len(cascades))
    ]


def logits(net: Net, data: Sequence[Data]) -> np.ndarray:
    """Predictions without dropout, float [n, c]."""
    batch = Batch.from_data_list(list(data))
    with torch.no_grad():
        return net.eval()(batch.x, batch.edge_index, batch.batch, batch.num_graphs).numpy()


def trainer(net: Net, data: list[Data], rate: float, decay: float, compiled: bool = False):
    """``train(groups)``: an epoch over batches given by the indices of their graphs; Adam with L2 on the matrices."""
    matrices = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    optimizer = torch.optim.Adam([{"params": matrices, "weight_decay": decay}, {"params": others}], lr=rate)
    forward = torch.compile(net, dynamic=True) if compiled else net
    net.train()

    def train(groups: Sequence[Sequence[int]]) -> None:
        for batch in DataLoader(data, batch_sampler=groups):
            optimizer.zero_grad()
            scores = forward(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
            torch.nn.functional.cross_entropy(scores, batch.y).backward()
            optimizer.step()

    return train

"""From a PyTorch function to its Spec: ``capture`` (torch, untrusted) and ``spec_of`` (no torch, trusted for claim a).

    graph = capture(attention)      # plain JSON: source text, inputs with size names, operators
    spec = spec_of(graph)           # one MoA term, the hypotheses that it needs, and where it deviates
    agree(attention, graph)         # the term's value against the function on random ragged shapes

Importing this package loads no torch.
"""

from __future__ import annotations

from .capture import capture
from .compare import agree
from .graph import Graph, parse
from .table import COVERED, Spec, spec_of

__all__ = ["COVERED", "Graph", "Spec", "agree", "capture", "parse", "spec_of"]

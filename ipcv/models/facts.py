"""The facts about a loaded model that an answer carries along."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Which model answered, and how it was held in memory."""

    name: str  # as asked for: "demo", a hub name or a folder
    revision: str | None  # commit of the hub's repository, where it came from there
    family: str  # `model_type` of its configuration
    parameters: int
    device: str
    dtype: str  # of the vision encoder, and of the language model unless it is quantised
    quantization: str | None  # of the language model's linear layers: "4bit", "8bit", or as the checkpoint came
    attention: str  # attention kernel, by transformers' name

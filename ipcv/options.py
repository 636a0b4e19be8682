"""The options of a question. Imports no torch: methods import it when they are made."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Union

from pydantic import TypeAdapter
from pydantic_core import core_schema

from ipcv.compression import registry
from ipcv.compression.compressors.compressor import Compressor
from ipcv.compression.method import Place
from ipcv.compression.pruners.pruner import Pruner
from ipcv.compression.reducers.reducer import Reducer
from ipcv.media.sampling import Sampling

PIXELS = 448 * 448  # per frame, unless asked for otherwise


@dataclass(frozen=True)
class OneOf:
    """Tells pydantic that a field holds one of the registered methods of a place, or None."""

    place: Place

    def __get_pydantic_core_schema__(self, _: Any, handler: Any) -> Any:
        """The schema of the union of these methods' classes; JSON is read as the class that it names."""
        union = handler.generate_schema(Union[(*registry.classes(self.place), None)])
        return core_schema.no_info_wrap_validator_function(self._read, union)

    def _read(self, value: Any, read: Any) -> Any:
        """Read a method by the name in its field `method`; IPCV alone has none."""
        if isinstance(value, dict):
            for each in registry.classes(self.place):
                if value.get("method") == getattr(each, "method", None):
                    settings = {name: setting for name, setting in value.items() if name != "method"}
                    return TypeAdapter(each).validate_python(settings)
        return read(value)


@dataclass(frozen=True, kw_only=True)
class Options:
    """All that can be chosen about how a question is answered. Bad values raise `ValueError`.

    The defaults are those of the command line.
    """

    kind: ClassVar[str] = "options"  # in cache keys: never changed

    sampling: Sampling = field(default_factory=Sampling)  # which frames
    max_pixels: int | None = None  # per frame, after resizing; None: 448 x 448, or less if the model's limit is lower
    max_visual_tokens: int | None = None  # in the prompt, of all videos; None: what the model's context leaves
    frame_batch: int = 16  # frames encoded at a time
    compressor: Annotated[Compressor | None, OneOf("compressor")] = field(  # None: the encoder computes every token
        default_factory=partial(registry.default, "compressor")
    )
    reducer: Annotated[Reducer | None, OneOf("reducer")] = None  # None: every visual token is in the prompt
    pruner: Annotated[Pruner | None, OneOf("pruner")] = field(  # None: the language model sees every token
        default_factory=partial(registry.default, "pruner")
    )
    system: str | None = None  # system prompt; None: whatever the model's chat template does without one
    max_new_tokens: int = 512
    temperature: float = 0.0  # 0: always the most likely token
    seed: int = 0  # of the sampling where temperature > 0
    baseline: bool = False  # also run uncompressed, and measure what compression saved and cost
    repeats: int | None = None  # pairs of runs that `baseline` times; None: until it is sure, for two minutes or so

    def __post_init__(self) -> None:
        if self.frame_batch < 2 or self.frame_batch % 2:
            raise ValueError(f"frame_batch={self.frame_batch} must be an even number of frames, at least 2")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise ValueError(f"max_pixels={self.max_pixels} must be at least 1")
        if self.max_visual_tokens is not None and self.max_visual_tokens < 1:
            raise ValueError(f"max_visual_tokens={self.max_visual_tokens} must be at least 1")
        if self.repeats is not None and self.repeats < 1:
            raise ValueError(f"repeats={self.repeats} must be at least 1")
        if self.reducer and self.reducer.needs_reuse and not (self.compressor and self.compressor.reuses):
            raise ValueError(
                f"{type(self.reducer).__name__} drops the tokens that the encoder reused, and this one reuses none: "
                "use IPCV with a reuse above 0, or another reducer"
            )
        if self.repeats and not self.baseline:
            raise ValueError(f"repeats={self.repeats} is about a baseline: ask for `baseline` as well")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens} must be at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature={self.temperature} must be a number, 0 or more")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed={self.seed} must be a whole number from 0 to 2**63 - 1")

"""IPCV: its settings, and the context manager that puts its hooks on a vision encoder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from transformers import PreTrainedModel

from ipcv.architecture.hooks import installed
from ipcv.architecture.shapes import VisionShape
from ipcv.compression.compressors.compressor import Compressor, Kept, PassWork
from ipcv.compression.compressors.ipcv_flops import pass_flops
from ipcv.compression.compressors.ipcv_hooks import IPCVHooks
from ipcv.compression.compressors.presets import PRESETS
from ipcv.compression.compressors.tensors.changes import Rule
from ipcv.compression.compressors.tensors.selection import Select
from ipcv.compression.compressors.tensors.tokens import Blend
from ipcv.compression.shares import kept_count
from ipcv.families import find_encoder

Stabilizer = Literal["states", "neighbors"]

FLOOR = (1 / 16, 0.25)  # of all patches, and of `keep` of them: the lesser is kept at least, if so many are computed
REUSE = 0.1  # change of a patch from which on it is computed, unless asked for otherwise


@dataclass(frozen=True, kw_only=True)
class IPCV(Compressor):
    """Training-free compression inside the vision encoder (arXiv 2512.18747), with a better choice of tokens.

    A patch whose pixels hardly changed since it was last computed is reused: not one block computes it, and its keys,
    values and output are those of the earlier one. From block `layer` on, only the kept ones of the other tokens are
    computed. The first `stabilize` of these blocks still attend to all tokens: the dropped ones are approximated by
    their nearest kept neighbours. After the last block every token is rebuilt, so that the encoder's output keeps its
    shape. Attention stays within frames or windows, as in the model. Each forward pass chooses once, among the computed
    tokens of all its frames. With `quality`, a pass keeps as many tokens as it needs: few of a still scene, more of a
    busy one. `IPCV.preset("fast")` and `IPCV.preset("careful")` save more and less, `IPCV.paper()` has the paper's
    settings.

    >>> with IPCV()(model):
    ...     model.generate(**inputs)

    Raises `ValueError` for settings that make no sense (alone or for the model's depth) and when nothing would be
    kept, `ModelError` for an unsupported family.
    """

    name: ClassVar[str] = "ipcv"
    arxiv: ClassVar[str] = "2512.18747"
    departures: ClassVar[str] = (
        "a patch of a video is reused while it hardly changes; coverage chooses tokens by how well they cover all "
        "others, weighs neighbours by distance, takes keys and values from them, and lets every later block attend to "
        "all tokens; IPCV.paper() has the paper's own rules"
    )
    variants: ClassVar[Mapping[str, str]] = {
        "paper": "queries and outputs of dropped tokens, which the paper's code computes and throws away, are left out"
    }

    keep: float | None = (
        0.5  # share of computed visual tokens that the later blocks compute, more where few are; None with `quality`
    )
    quality: float | None = None  # in place of `keep`: an expected fidelity for which as few as needed are kept
    layer: int = 2  # first block that runs on kept tokens
    stabilize: int | Literal["all"] = "all"  # blocks whose attention still sees every token
    neighbors: int = 4  # kept tokens that rebuild a dropped one
    select: Select = "coverage"  # how the kept tokens are chosen
    blend: Blend = "distance"  # how neighbours are weighted
    stabilizer: Stabilizer | None = (
        None  # keys and values of a dropped token: by its rebuilt state, or its neighbours';
    )
    #                                       None: by its neighbours', or by its state where `stabilize` is a number
    reuse: float | None = None  # change of a patch from which on it is computed, 1: from black to white; 0: always;
    #                             None: `REUSE`, or 0 where `stabilize` is a number
    cut: float = 0.2  # share of changed patches above which a whole slice (frame or frame pair) is computed
    refresh: int = 8  # slices after which the next one is computed whole

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "IPCV":
        """The settings called `name`: fast, balanced (the default) or careful.

        Any field can be changed by name.
        """
        if name not in PRESETS:
            raise ValueError(f"preset {name!r} is not known; known: {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    @classmethod
    def paper(cls, **changes: Any) -> "IPCV":
        """As published (arXiv 2512.18747): keep the tokens that a block changed most.

        Any field can be changed by name.
        """
        paper = {"keep": 0.35, "layer": 3, "stabilize": 7, "neighbors": 10, "select": "change", "blend": "mean"}
        return cls(**{**paper, "stabilizer": "states", "reuse": 0.0, **changes})

    def __post_init__(self) -> None:
        if self.quality is not None:
            object.__setattr__(self, "keep", None)  # what is kept is not known yet
        elif self.keep is None or not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep} must be more than 0 and at most 1")
        if self.quality is not None and not 0 < self.quality < 1:
            raise ValueError(f"quality={self.quality} must be more than 0 and less than 1")
        if self.quality is not None and self.select != "coverage":
            raise ValueError(
                f"quality needs select='coverage', not {self.select!r}: it is judged by how well that covers"
            )
        if self.layer < 1:
            raise ValueError(f"layer={self.layer} must be at least 1: tokens are chosen by what the block before did")
        if not isinstance(self.stabilize, int) and self.stabilize != "all":
            raise ValueError(f"stabilize={self.stabilize!r} must be a number of blocks, or 'all'")
        if isinstance(self.stabilize, int) and self.stabilize < 0:
            raise ValueError(f"stabilize={self.stabilize} must not be negative")
        if self.neighbors < 1:
            raise ValueError(f"neighbors={self.neighbors} must be at least 1")
        if self.select not in get_args(Select):
            raise ValueError(f"select={self.select!r} is not known; known: {', '.join(get_args(Select))}")
        if self.blend not in get_args(Blend):
            raise ValueError(f"blend={self.blend!r} is not known; known: {', '.join(get_args(Blend))}")
        is_whole = self.stabilize == "all"  # else the method is the paper's, unless asked for otherwise
        if self.stabilizer is None:
            object.__setattr__(self, "stabilizer", "neighbors" if is_whole else "states")
        if self.reuse is None:
            object.__setattr__(self, "reuse", REUSE if is_whole else 0.0)
        if self.stabilizer not in get_args(Stabilizer):
            raise ValueError(f"stabilizer={self.stabilizer!r} is not known; known: {', '.join(get_args(Stabilizer))}")
        self._check_reuse()

    def _check_reuse(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"reuse={self.reuse} must be at least 0 and less than 1")
        if self.reuse and self.stabilize != "all":
            raise ValueError(
                f"reuse={self.reuse} needs stabilize='all', not {self.stabilize}: computed tokens attend to "
                "reused ones in every block; use reuse=0 with it"
            )
        if not 0 < self.cut <= 1:
            raise ValueError(f"cut={self.cut} must be more than 0 and at most 1")
        if self.refresh < 1:
            raise ValueError(f"refresh={self.refresh} must be at least 1 slice")

    @contextmanager
    def __call__(self, model: PreTrainedModel, *, video: bool = False) -> Iterator[Kept]:
        """Compress the encoder of `model` for the length of the `with`, as every `Compressor` does."""
        encoder = find_encoder(model)
        self._check_depth(len(encoder.blocks))
        hooks = IPCVHooks(self, encoder, is_video=video)
        with installed(hooks, encoder.blocks) if self.compresses else nullcontext():
            yield hooks.kept

    def check(self, shape: VisionShape) -> None:
        """Raise `ValueError` if the encoder ends before `layer`."""
        self._check_depth(shape.blocks)

    def check_pass(self, shape: VisionShape, frames: Sequence[int]) -> None:  # noqa: ARG002 - any encoder
        """Raise `ValueError` if nothing would be kept of so many patches."""
        if self.keep and kept_count(sum(frames), self.keep) < 1:
            raise ValueError(f"keep={self.keep} of a batch of {sum(frames)} patches keeps none: raise keep")

    def flops(self, shape: VisionShape, work: PassWork) -> int:
        """FLOPs of one compressed pass, comparing pixels, choosing and rebuilding tokens included."""
        return pass_flops(shape, work, self)

    def _check_depth(self, depth: int) -> None:
        if self.layer >= depth:
            raise ValueError(
                f"layer={self.layer} is past the encoder's last block: it has {depth}, from 0 to {depth - 1}"
            )

    @property
    def threshold(self) -> float:
        """`reuse` as a number."""
        return self.reuse or 0.0

    @property
    def compresses(self) -> bool:
        """Whether these settings leave anything out."""
        return self.keep != 1 or self.reuses

    @property
    def reuses(self) -> bool:
        """Whether patches that hardly changed are taken over from earlier frames."""
        return self.threshold > 0

    def rule(self, pixel_range: float) -> Rule:
        """When a patch or a whole slice is computed; `pixel_range` is from black to white in the encoder's input."""
        return Rule(self.threshold * pixel_range, self.cut, self.refresh)

    def count(self, computed: int, patches: int) -> int:
        """How many of the `computed` ones of a pass's patches are kept; only without `quality`.

        Where most are reused, more of the others are kept: all of the picture is seen through them.
        """
        keep = self.keep or 0.0
        least = max(1, kept_count(patches, min(FLOOR[0], FLOOR[1] * keep))) if self.reuse else 0
        return max(kept_count(computed, keep), min(computed, least))

    @property
    def compares_features(self) -> bool:
        """Whether tokens are compared by features (`features.py`) and not, as in the paper, by plain states."""
        return self.select == "coverage" or self.blend == "distance"

    def stable(self, depth: int) -> int:
        """The number of blocks, in an encoder of `depth`, that compute kept tokens and attend to all."""
        later = depth - self.layer
        return later if isinstance(self.stabilize, str) else min(self.stabilize, later)

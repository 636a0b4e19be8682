"""The sizes of a model, as far as its FLOPs depend on them, and the FLOPs of single products.

A multiply and an add count as two. Counted are all matrix products, as `torch.utils.flop_counter` counts them:
attention is the full square of queries and keys, also where a causal kernel skips half of it, and grouped-query
attention computes every query head. Not counted are the model's element-wise operations (norms, activations,
rotations, residual sums) and table look-ups. The work that compression adds is counted whole, element-wise operations
included, so that the savings are never overstated; comparisons (sorting, top-k) and moving data are no FLOPs.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class VisionShape:
    """A vision encoder's sizes. Families read them from their configurations, see `ipcv.families`."""

    blocks: int
    width: int
    heads: int
    mlp_width: int
    mlp_parts: int = 2  # matrices of the feed-forward part: 3 where it is gated
    patch_values: int  # pixel values in one patch
    merge: int  # patches that become one visual token
    hidden_width: int | None = None  # between the merged patches and the visual token; None: as wide as the former
    out_width: int  # of a visual token
    head: int = 0  # tokens at the head of each frame that are no patches
    window: int = 0  # patches per side of a window of attention; 0: all blocks attend within frames
    whole: tuple[int, ...] = ()  # blocks that attend within frames though there are windows
    taps: tuple[int, ...] = ()  # blocks whose output becomes visual tokens as well

    def in_windows(self, block: int) -> bool:
        """Whether a block attends within windows."""
        return self.window > 0 and block not in self.whole


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """A language model's sizes."""

    layers: int
    width: int
    query_width: int  # query heads × head size
    key_width: int  # key heads × head size: less than `query_width` with grouped-query attention
    heads: int  # query heads
    mlp_width: int
    sparse: tuple[int, ...] = ()  # layers with experts in place of one feed-forward part
    expert_width: int = 0  # of all experts together that a token goes through there
    experts: int = 0  # among which they are chosen
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> "TextShape":
        """The sizes in a `text_config`."""
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            query_width=config.num_attention_heads * head,
            key_width=config.num_key_value_heads * head,
            heads=config.num_attention_heads,
            mlp_width=config.intermediate_size,
            vocabulary=config.vocab_size,
            **(_experts(config) if getattr(config, "num_experts", 0) else {}),
        )

    def feed_forward(self, layer: int) -> int:
        """How wide all outputs and inputs of a layer's gated feed-forward part are, its router's included."""
        return 3 * self.expert_width + self.experts if layer in self.sparse else 3 * self.mlp_width


def _experts(config: Any) -> dict[str, Any]:
    every, plain = config.decoder_sparse_step, config.mlp_only_layers
    return {
        "sparse": tuple(i for i in range(config.num_hidden_layers) if i not in plain and (i + 1) % every == 0),
        "expert_width": config.num_experts_per_tok * config.moe_intermediate_size,
        "experts": config.num_experts,
    }


def linear(rows: int, inputs: int, outputs: int) -> int:
    """A linear layer over `rows` tokens."""
    return 2 * rows * inputs * outputs


def attention(width: int, pairs: int) -> int:
    """Scores and weighted values of `pairs` of a query and a key; `width` is that of all query heads."""
    return 4 * pairs * width

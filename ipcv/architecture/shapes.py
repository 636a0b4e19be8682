"""The sizes of a model from which its FLOPs and its cache follow, and the FLOPs of single matrix products.

A multiply and an add count as two. Counted are all matrix products, as `torch.utils.flop_counter` counts them:
attention is the full square of queries and keys, also where a causal kernel skips half of it, and grouped-query
attention computes every query head. Not counted are the model's element-wise operations (norms, activations,
rotations, residual sums) and table look-ups. The work that compression adds is counted whole, element-wise operations
included, so that the savings are never overstated; comparisons (sorting, top-k) and moving data are no FLOPs.
"""

from dataclasses import dataclass
from typing import Any, Literal

Need = Literal["merging", "keys", "whole_prompt"]  # what a compression method may need of a model

NEEDS: dict[Need, str] = {  # in words
    "merging": "packed tokens that attend to their whole frame in every block and are read behind the last one only",
    "keys": "a layer with keys, not linear attention, before the one that prunes",
    "whole_prompt": "a layer that attends to the whole prompt before the one that prunes",
}


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
    pooled: bool = False  # whether their mean becomes it by one matrix; else all of them do, by two
    hidden_width: int | None = None  # between the merger's two matrices; None: that of the merged patches;
    #                                  0: the merger is one matrix
    gated_width: int = 0  # of a gated feed-forward part behind the merger; 0: there is none
    out_width: int  # of a visual token
    head: int = 0  # tokens at the head of each frame that are no patches
    window: int = 0  # patches per side of a window of attention; 0: all blocks attend within frames
    full_blocks: tuple[int, ...] = ()  # blocks that attend within frames although there are windows
    deepstack: tuple[int, ...] = ()  # blocks whose output DeepStack reads

    def in_windows(self, block: int) -> bool:
        """Whether a block attends within windows."""
        return self.window > 0 and block not in self.full_blocks


@dataclass(frozen=True, kw_only=True)
class LinearShape:
    """The sizes of a language model's layers with linear attention: a state of constant size in place of keys."""

    layers: tuple[int, ...]  # which they are, counted from 0
    heads: int  # value heads, each with a state of its own
    value_size: int  # of a head
    key_heads: int
    key_size: int  # of a head
    kernel: int  # tokens under the convolution before it

    @property
    def values(self) -> int:
        """Width of the values of all heads."""
        return self.heads * self.value_size

    @property
    def convolved(self) -> int:
        """Width of the convolution's input: queries, keys and values."""
        return 2 * self.key_heads * self.key_size + self.values

    def state(self, width: int) -> int:
        """Bytes of the two states that a layer holds of a prompt of any length; the recurrent one is always float32."""
        return self.convolved * self.kernel * width + self.heads * self.key_size * self.value_size * 4


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """A language model's sizes."""

    layers: int
    width: int
    query_width: int  # query heads × head size
    key_width: int  # key heads × head size: less than `query_width` with grouped-query attention
    heads: int  # query heads
    gated: bool = False  # whether attention's output goes through gates, which are projected like queries
    linear: LinearShape | None = None  # None: every layer has keys
    windows: tuple[int, ...] = ()  # per layer, most positions that a token attends to; 0: all; (): all everywhere
    mlp_width: int
    sparse: tuple[int, ...] = ()  # layers with experts in place of one feed-forward part
    expert_width: int = 0  # of all experts together that a token goes through
    experts: int = 0  # to choose from, besides those that all tokens go through
    vocabulary: int

    @classmethod
    def of(cls, config: Any, **more: Any) -> "TextShape":
        """The sizes in a `text_config`; `more` are those that a family knows by other names."""
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        sizes: dict[str, Any] = {
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "query_width": config.num_attention_heads * head,
            "key_width": config.num_key_value_heads * head,
            "heads": config.num_attention_heads,
            "windows": layer_windows(config),
            "mlp_width": getattr(config, "intermediate_size", 0),  # there is none where all layers have experts
            "vocabulary": config.vocab_size,
        }
        if getattr(config, "num_experts", 0) and "experts" not in more:
            sizes |= _experts(config)
        return cls(**sizes | more)

    @property
    def linear_layers(self) -> tuple[int, ...]:
        """The layers that attend linearly: they have no keys."""
        return self.linear.layers if self.linear else ()

    def feed_forward(self, layer: int) -> int:
        """Widths of all matrices in a layer's gated feed-forward part, summed, its router's included."""
        return 3 * self.expert_width + self.experts if layer in self.sparse else 3 * self.mlp_width

    def window(self, layer: int) -> int:
        """Most positions that a token attends to in a layer, its own included; 0: all before it."""
        return self.windows[layer] if self.windows else 0


def layer_windows(config: Any) -> tuple[int, ...]:
    """Per decoder layer in a `text_config`, most positions that a token attends to, its own included; 0: all."""
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    return tuple(config.sliding_window if kind == "sliding_attention" else 0 for kind in kinds)


def _experts(config: Any) -> dict[str, Any]:
    every, plain = config.decoder_sparse_step, config.mlp_only_layers
    return {
        "sparse": tuple(i for i in range(config.num_hidden_layers) if i not in plain and (i + 1) % every == 0),
        "expert_width": config.num_experts_per_tok * config.moe_intermediate_size,
        "experts": config.num_experts,
    }


def linear_layers(config: Any) -> tuple[int, ...]:
    """The decoder layers in a `text_config`, counted from 0, that attend linearly: they have no keys."""
    kinds = getattr(config, "layer_types", None) or ()
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "linear_attention")


def linear(rows: int, inputs: int, outputs: int) -> int:
    """A linear layer over `rows` tokens."""
    return 2 * rows * inputs * outputs


def attention(width: int, pairs: int) -> int:
    """Scores and weighted values of `pairs` of a query and a key; `width` is that of all query heads."""
    return 4 * pairs * width


CHUNK = 2048  # tokens that a decoder layer computes at a time

"""The budget of visual tokens: the limit of a prompt, the share of each video, and a warning of what was lowered."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ipcv.compression import registry
from ipcv.compression.reducers.reducer import Reducer

PICTURE = 128  # visual tokens of a picture (a temporal patch) down to which pixels go first, as in Qwen's own tools
REDUCER = "evs"  # leaves tokens out of the prompt where no other method was asked to
KEEP = 0.25  # share of visual tokens down to which keep goes
ORDER = (
    "frames, evenly over the clip, to one per second",
    f"pixels, to {PICTURE} visual tokens a picture",
    f"keep, what the reducer leaves in the prompt ({REDUCER} if there is none), to {KEEP}",
    "frames, evenly, to as few as it takes",
    "pixels, to the least that the model takes",
)

What = Literal["frames", "pixels", "keep"]
Origin = Literal["context", "option", "memory"]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """How many visual tokens a prompt, or one video in it, may have."""

    visual: int  # tokens
    source: Origin  # where the limit comes from
    context: int | None = None  # tokens, the text between pictures counted in; None: only visual tokens are limited

    def left(self, text: int) -> int:
        """The visual tokens that fit beside so many tokens of `text` between the pictures."""
        return self.visual if self.context is None else min(self.visual, self.context - text)

    def of(self, asked: int, text: int) -> int:
        """How many of the `asked` visual tokens fit beside so many tokens of `text` between the pictures."""
        return max(0, min(asked, self.left(text)))


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """One thing that was lowered to meet a limit."""

    what: What
    before: float  # frames; pixels per frame; share of visual tokens that stays
    after: float
    visual_tokens: int  # that this leaves at most


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of the budget that one video or image has, and what was lowered to meet it."""

    asked: int  # visual tokens that the settings alone would put into the prompt
    limit: int
    text: int = 0  # tokens, at most, of the text that the prompt has for each picture, such as its time
    lowered: tuple[Lowered, ...] = ()  # in the order in which it was done

    def reducer(self, given: Reducer | None) -> Reducer | None:
        """The reducer to use where the options have `given`: with the lowered share, if it was lowered."""
        keep = [each.after for each in self.lowered if each.what == "keep"]
        return reducer_or_default(given).at(keep[-1]) if keep else given


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many visual tokens the prompt may have."""

    limit: int
    source: Origin  # what the model's context leaves; max_visual_tokens; what was left after memory ran out
    asked: int  # that the settings alone would put into it
    text: int = 0  # tokens, at most, of the text that the prompt has for each picture: beside these, there is `limit`
    order: tuple[str, ...] = ORDER  # in which what is too much is lowered, each only as far as needed

    @classmethod
    def of(cls, limit: Limit, shares: Sequence[Share]) -> "Budget":
        """The budget of a prompt with these `shares`: `limit`, less the text between their pictures."""
        text = sum(share.text for share in shares)
        left = limit.left(text)
        return cls(
            limit=max(0, left),
            source=limit.source if left == limit.visual else "context",
            asked=sum(share.asked for share in shares),
            text=text,
        )


def reducer_or_default(given: Reducer | None) -> Reducer:
    """The reducer that leaves tokens out where not all fit: the one `given`, or `REDUCER`."""
    if given is not None:
        return given
    reducer: Reducer = registry.maker(REDUCER)()
    return reducer


def allot(asked: Sequence[int], limit: int) -> list[int]:
    """Divide `limit`: small requests are met in full, and the large ones get equal parts of the rest.

    >>> allot([10, 300, 500], 210)
    [10, 100, 100]
    """
    shares = [0] * len(asked)
    order = sorted(range(len(asked)), key=lambda index: asked[index])
    for done, index in enumerate(order):
        shares[index] = min(asked[index], (limit - sum(shares)) // (len(asked) - done))
    return shares


def explain(budget: Budget, shares: Sequence[tuple[str, Share]]) -> Iterator[str]:
    """Yield a warning if anything was lowered, with its values before and after, and why.

    `shares` come with the names of their videos.
    """
    reasons = {
        "context": "the model's context leaves room for",
        "option": "max_visual_tokens allows",
        "memory": "memory allows",
    }
    told = [
        f"{f'of {name} ' if len(shares) > 1 and name else ''}"
        + ", ".join(f"{each.what} from {_number(each.before)} to {_number(each.after)}" for each in share.lowered)
        for name, share in shares
        if share.lowered
    ]
    beside = f" beside {budget.text:,} tokens of text between the pictures" if budget.text else ""
    if told:
        yield (
            f"{budget.asked:,} visual tokens are more than the {budget.limit:,} that {reasons[budget.source]}"
            f"{beside if budget.source == 'context' else ''}; "
            f"lowered: {'; '.join(told)} (the order: {'; '.join(ORDER)})"
        )


def _number(value: float) -> str:
    return f"{value:g}" if value < 1 else f"{value:,.0f}"

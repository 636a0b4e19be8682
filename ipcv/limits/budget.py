"""How many visual tokens a prompt may have, who of several videos gets how many, and what is said about it."""

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
    """What there is room for, in a prompt or of it for one video."""

    visual: int  # tokens
    source: Origin  # what says so
    context: int | None = None  # tokens, text that goes with pictures included; None: only visual ones are limited

    def left(self, text: int) -> int:
        """Visual tokens that there is room for beside so many tokens of `text` that goes with pictures."""
        return self.visual if self.context is None else min(self.visual, self.context - text)

    def of(self, asked: int, text: int) -> int:
        """How many of the visual tokens that are `asked` for there is room for beside that text."""
        return max(0, min(asked, self.left(text)))


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """One thing that was lowered."""

    what: What
    before: float  # frames; pixels per frame; share of visual tokens that stays
    after: float
    visual_tokens: int  # that this leaves at most


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one video or image may have of the budget, and what was lowered for that."""

    asked: int  # visual tokens that the settings alone would put into the prompt
    limit: int
    text: int = 0  # tokens, at most, of the text that the prompt has for each picture, such as its time
    lowered: tuple[Lowered, ...] = ()  # in the order in which it was done

    def reducer(self, given: Reducer | None) -> Reducer | None:
        """The reducer in place of the one `given` in the settings."""
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
        """What `limit` comes to beside the text that goes with the pictures of `shares`."""
        text = sum(share.text for share in shares)
        left = limit.left(text)
        return cls(
            limit=max(0, left),
            source=limit.source if left == limit.visual else "context",
            asked=sum(share.asked for share in shares),
            text=text,
        )


def reducer_or_default(given: Reducer | None) -> Reducer:
    """The reducer that leaves tokens out where there is no room for all: the one `given`, if any."""
    if given is not None:
        return given
    reducer: Reducer = registry.maker(REDUCER)()
    return reducer


def allot(asked: Sequence[int], limit: int) -> list[int]:
    """What each may have of `limit`: as much as it asks for, and of what is then too little all others the same.

    >>> allot([10, 300, 500], 210)
    [10, 100, 100]
    """
    shares = [0] * len(asked)
    order = sorted(range(len(asked)), key=lambda index: asked[index])
    for done, index in enumerate(order):
        shares[index] = min(asked[index], (limit - sum(shares)) // (len(asked) - done))
    return shares


def explain(budget: Budget, shares: Sequence[tuple[str, Share]]) -> Iterator[str]:
    """A warning if anything was lowered: from what to what, and why. `shares` come with the names of the videos."""
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

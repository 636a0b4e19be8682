"""How many visual tokens a model's context leaves beside the text of the prompt and the answer."""

import math
from collections.abc import Sequence
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from ipcv.architecture.preprocess import FrameSettings
from ipcv.architecture.visual import VisualSpan
from ipcv.families import find_language
from ipcv.limits.budget import Limit
from ipcv.limits.measure import BudgetPlanner, PictureText
from ipcv.models.loading import Loaded
from ipcv.models.prompt import build_prompt
from ipcv.options import Options

STEP = 256  # tokens: the room that is kept free for text is a multiple of this
DIGITS = 6  # of a time in seconds, or of a picture's number


class PromptLimits:
    """The front door of the budget of visual tokens: what prompts to one model have room for, and how it is shared."""

    def __init__(self, model: Loaded) -> None:
        self.model = model

    def limit(self, options: Options, questions: Sequence[str], *, videos: int = 1) -> Limit:
        """The visual tokens that a prompt about so many videos may have, whichever of `questions` it asks.

        `options` may ask for more than the context leaves: the context is then not looked at.
        """
        nothing = [VisualSpan(kind="video", grid=(1, 0, 0), times=(0.0,), tokens=0)] * videos
        model, config = self.model, self.model.network.config
        prompts = [
            build_prompt(model.tokenizer, config, question, nothing, options.system, model.processor)
            for question in questions
        ]
        length = max(prompt.ids.shape[1] for prompt in prompts)
        # in steps, so that another question of about this length has the same limit, and the same encodings
        text = math.ceil(length / STEP) * STEP
        left = max(1, config.get_text_config().max_position_embeddings - options.max_new_tokens - text)
        wanted = options.max_visual_tokens
        counts = any(self._text.by_digits) and (wanted is None or wanted <= left)
        return Limit(visual=wanted or left, source="option" if wanted else "context", context=left if counts else None)

    def planner(self, options: Options, patches: FrameSettings) -> BudgetPlanner:
        """How videos are measured under `options`, with frames cut into `patches`, and lowered to a limit."""
        pruned = options.compressor or options.reducer or options.pruner
        may_reduce = bool(pruned) and not options.baseline  # the baseline is to see the same tokens
        return BudgetPlanner(patches=patches, reducer=options.reducer, may_reduce=may_reduce, text=self._text)

    @cached_property
    def _text(self) -> PictureText:
        return picture_text(self.model.tokenizer, self.model.facts.family, self.model.processor)


def picture_text(tokenizer: PreTrainedTokenizerBase, family: str, processor: str | None) -> PictureText:
    """Count the tokens of text that a model family writes for each picture of a video, such as its time.

    `processor` is transformers' class, whose wording counts. Times and numbers of one digit, two and so on are tried,
    each with the digit that takes most.
    """
    language = find_language(family)
    if language.frame_format is None:
        return PictureText()

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    def most(digits: int) -> int:
        numbers = [int(digit * digits) for digit in "123456789"]
        pictures = [language.frame_text(number, number + 0.9, processor) for number in numbers]
        return max(length(language.separator.join([one, one])) - length(one) - 1 for one in pictures)

    return PictureText(tuple(most(digits) for digits in range(1, DIGITS + 1)))

"""Scores of answers, the score without looking, and confidence intervals of means and differences."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ipcv.benchmark.questions import Question
from ipcv.benchmark.reference_captions import fact_score
from ipcv.benchmark.wordings import QuestionKind

Z = 1.959964  # standard normal quantile of 95 % intervals


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float


def points(question: Question, answer: str) -> float:
    """The score of an answer, 0 to 1.

    A caption scores the F1 of its facts; a question with options 1 if the right one is named and no other; a code 1 if
    it is the whole answer, or the only word of two or three capitals and digits in it.
    """
    said = normalized(answer)
    if question.kind == "caption":
        return fact_score(question.answer, answer)
    if not question.options:
        codes = re.findall(r"\b[A-Z0-9]{2,3}\b", answer)
        return float(said == normalized(question.answer) or codes == [question.answer])
    named = [option for option in question.options if re.search(rf"\b{option}\b", said)]
    return float(named == [question.answer])


def normalized(answer: str) -> str:
    """`answer` without what does not count: case, spaces at the ends, a final full stop, American spelling.

    >>> normalized(" Red. ")
    'red'
    """
    return answer.strip().rstrip(".").lower().replace("color", "colour")


def constant_baseline(questions: Sequence[Question]) -> dict[QuestionKind, float]:
    """For each kind, the best score of a strategy that never looks at the clip, chosen in hindsight.

    A strategy gives one and the same answer to all questions, or always the first, second, … of a question's options.
    """
    best: dict[QuestionKind, float] = {}
    for kind in dict.fromkeys(question.kind for question in questions):
        mine = [question for question in questions if question.kind == kind]
        places = range(max(len(question.options) for question in mine))
        strategies = [
            *([answer] * len(mine) for answer in dict.fromkeys(question.answer for question in mine)),
            *([question.options[place % len(question.options)] for question in mine] for place in places),
        ]
        best[kind] = max(
            sum(points(question, answer) for question, answer in zip(mine, each, strict=True)) / len(mine)
            for each in strategies
        )
    return best


def accuracy_interval(mean: float, count: int) -> Interval:
    """Wilson's score interval of a mean of `count` scores between 0 and 1."""
    centre = (mean + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(mean * (1 - mean) / count + Z**2 / (4 * count**2))
    return Interval(low=max(0.0, centre - half), high=min(1.0, centre + half))


def difference_interval(gained: Sequence[float] | np.ndarray) -> Interval:
    """Agresti and Min's interval (2005) of a paired difference of scores; `gained` is each question's, -1 to 1.

    Their counts of questions won and lost are sums here, as captions gain in fractions: that errs towards wide.
    """
    gained = np.asarray(gained)
    won, lost = gained[gained > 0].sum() + 0.5, -gained[gained < 0].sum() + 0.5
    count = len(gained) + 2
    centre = (won - lost) / count
    half = Z * math.sqrt(won + lost - (won - lost) ** 2 / count) / count
    return Interval(low=max(-1.0, float(centre - half)), high=min(1.0, float(centre + half)))

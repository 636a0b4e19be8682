"""The answers of one setting, question by question, and their score."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ipcv.answer import Answer, Stage, StageName
from ipcv.benchmark.cases import Case
from ipcv.benchmark.report import Changed, Half, Score
from ipcv.benchmark.scoring import accuracy_interval, difference_interval, normalized, points
from ipcv.benchmark.settings import Setting
from ipcv.benchmark.wordings import KINDS
from ipcv.inference.savings import COMPARED
from ipcv.world.camera import CAMERAS


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One answer."""

    case: Case
    points: float
    gained: float  # `points` less those of the first setting
    same: bool  # as the first setting's
    stages: dict[StageName, Stage]
    visual_tokens: int  # in the prompt


@dataclass
class Tally:
    """The answers of one setting."""

    setting: Setting
    rows: list[_Row] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)

    def add(self, case: Case, answer: Answer, first: Answer) -> None:
        """Add an answer; `first` is that of the first setting to the same question."""
        question, mine = case.question, points(case.question, answer.answer)
        gained = mine - points(question, first.answer)
        same = normalized(answer.answer) == normalized(first.answer)
        if not same:
            self.changed.append(
                Changed(
                    question=len(self.rows),
                    kind=question.kind,
                    text=question.text,
                    truth=question.answer,
                    first=first.answer,
                    answer=answer.answer,
                    points=gained,
                )
            )
        stages = {stage.name: stage for stage in answer.stages}
        tokens = sum(video.frames.visual_tokens for video in answer.videos)
        self.rows.append(_Row(case=case, points=mine, gained=gained, same=same, stages=stages, visual_tokens=tokens))

    def score(self, *, is_first: bool) -> Score:
        """Score the answers: all of them, those to each kind of question, and those about each kind of camera."""
        kinds = {kind: [row.points for row in self.rows if row.case.question.kind == kind] for kind in KINDS}
        halves = {camera: [row for row in self.rows if row.case.camera == camera] for camera in CAMERAS}
        return Score(
            **_measured(self.rows, is_first=is_first),
            name=self.setting.name,
            settings=self.setting,
            default=self.setting.is_default,
            by_kind={kind: float(np.mean(of)) for kind, of in kinds.items() if of},
            by_camera={
                camera: Half(
                    **_measured(rows, is_first=is_first),
                    visual_tokens=float(np.mean([row.visual_tokens for row in rows])),
                )
                for camera, rows in halves.items()
                if rows
            },
            changed=tuple(self.changed),
        )


def _measured(rows: Sequence[_Row], *, is_first: bool) -> dict[str, Any]:
    """The fields of `Measured` over some answers."""
    count, gained = len(rows), [row.gained for row in rows]
    accuracy = float(np.mean([row.points for row in rows]))
    stages = {name: [row.stages[name] for row in rows] for name in COMPARED}
    per = {name: sum(stage.tokens_in for stage in of) if name == "generate" else count for name, of in stages.items()}
    return {
        "accuracy": accuracy,
        "interval": accuracy_interval(accuracy, count),
        "difference": float(np.mean(gained)),
        "difference_interval": None if is_first else difference_interval(gained),
        "same_answers": sum(row.same for row in rows) / count,
        "seconds": {name: sum(stage.seconds for stage in of) / per[name] for name, of in stages.items()},
        "flops": {name: sum(stage.flops or 0 for stage in of) / per[name] for name, of in stages.items()},
    }

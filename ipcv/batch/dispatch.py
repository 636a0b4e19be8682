"""Videos of a batch before they are read: how each is read, or its encoding where the cache has it."""

from collections.abc import Sequence
from dataclasses import replace

from ipcv.batch.pending import PendingVideo
from ipcv.batch.plan import Plan, WorkItem, failure
from ipcv.batch.prompts import second_try
from ipcv.encodings import fingerprint
from ipcv.encodings.cache import EncodingCache
from ipcv.encodings.reuse import Reuse
from ipcv.inference.pipeline import Pipeline
from ipcv.limits.budget import Limit
from ipcv.limits.context import PromptLimits
from ipcv.media.remote.access import Access
from ipcv.models.loading import Loaded
from ipcv.readers.job import ReadJob


class Dispatcher:
    """Looks videos up, for `model` and `plan`; encodings of whole videos are taken from `cache`.

    Raises `ValueError` if model and plan do not go together.
    """

    def __init__(self, model: Loaded, plan: Plan, cache: EncodingCache | None, access: Access) -> None:
        self.model, self.plan, self.cache, self.access = model, plan, cache, access
        self.identity = fingerprint.model(model.facts)
        self._limits = PromptLimits(model)
        self._planner = self._limits.planner(plan.options, Pipeline(model, plan.options, *plan.questions).patches)
        self._limit = self._prompt_limit(plan.questions)  # unless an item has a question of its own

    def look_up(self, work: WorkItem) -> PendingVideo:
        """The video with all that it takes to read it; failed if the model cannot take its question, say."""
        if work.failed:
            return PendingVideo(work=work, failed=work.failed)
        try:
            return self._prepared(work)
        except Exception as error:
            return PendingVideo(work=work, failed=failure(work.item, work.key, "open", error))

    def _prepared(self, work: WorkItem) -> PendingVideo:
        """The video with all that it takes to read it; with its encoding if the cache has it."""
        item, options = work.item, self.plan.settings(work.item)
        limit = self._prompt_limit([item.question]) if item.question else self._limit
        job = ReadJob(
            video=item.video,
            sampling=options.sampling,
            segments=self.plan.segments,
            planner=self._planner,
            limit=limit,
            frame_batch=options.frame_batch,
            access=replace(self.access, timeout=None),  # the readers see to that
        )
        video = PendingVideo(work=work, job=job, pipeline=Pipeline(self.model, options))
        if self.cache and work.content and not self.plan.segments:
            video.reuse = Reuse(self.cache, self.identity, options, self._planner, self.model.width)
            video.encoded = video.reuse.load(item.video, limit, work.content)
        return video

    def _prompt_limit(self, questions: Sequence[str]) -> Limit:
        """The visual tokens that a prompt may have, whichever of `questions` it asks, or a second try."""
        again = [second_try("")] if self.plan.structured else []
        return self._limits.limit(self.plan.options, [*questions, *again])

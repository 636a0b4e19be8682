"""When memory runs out: the work starts again with less of what took too much."""

from dataclasses import replace

from ipcv.inference.opening import OpenedInputs
from ipcv.inference.pipeline import Pipeline
from ipcv.limits.room import Room


def less(room: Room, run: Pipeline, opened: OpenedInputs) -> tuple[Room, str] | None:
    """Less of what `run` could not hold: tokens if everything was encoded, else pixels of what was not."""
    room = replace(room, frame_batch=run.frames.batch)
    if len(run.parts) == len(opened.inputs):
        return room.fewer_tokens(run.work.visual)
    return room.fewer_pixels(opened.inputs[len(run.parts)].size)

"""How much of the budget of visual tokens a video takes whose frames are open or encoded already."""

from dataclasses import replace

from ipcv.encodings.encoded import Encoded
from ipcv.limits.budget import Limit, Share
from ipcv.limits.extent import Extent
from ipcv.limits.measure import BudgetPlanner
from ipcv.media.clip import Clip


def share_of(planner: BudgetPlanner, video: Clip | Encoded, limit: Limit) -> Share:
    """The share of the limit for a video that is open or encoded: only its kept tokens can still be lowered.

    Raises `ValueError` where a limit that was asked for is too low for that.
    """
    whole, before = extent_of(planner, video), video.share if isinstance(video, Encoded) else None
    path = (video.video if isinstance(video, Encoded) else video.facts).path
    _, share = planner.lower(whole, limit, video.times, path, only_reduce=True)
    if before is None:
        return share
    lowered = (*(each for each in before.lowered if each.what != "keep"), *share.lowered)
    return replace(share, asked=before.asked, limit=limit.of(before.asked, share.text), lowered=lowered)


def extent_of(planner: BudgetPlanner, video: Clip | Encoded) -> Extent:
    """The frames and pixels of a video that is open or encoded already."""
    step = planner.patches.temporal_patch_size
    frames = video.grid[0] * step if isinstance(video, Encoded) else len(video.times)
    extent = planner.extent(video.kind, video.times, frames, video.size)
    text = extent.text
    if isinstance(video, Encoded) and video.share:
        text = video.share.text // extent.pictures  # as it was measured before anything was lowered
    return replace(extent, patches=planner.patches.sized(*video.size), text=text)

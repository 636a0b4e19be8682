"""Options that commands share about where videos come from: other machines, and the cache of encodings."""

from typing import Annotated

from ipcv_cli import options as opt

Shard = Annotated[
    str | None,
    opt.option(opt.INPUT, "Only part I of N: one for each machine, each with its own -o.", "--shard", metavar="I/N"),
]
MaxDownload = Annotated[
    str, opt.option(opt.INPUT, "A remote video may be this large.", "--max-download", metavar="SIZE")
]
AllowPrivate = Annotated[
    bool,
    opt.option(opt.INPUT, "Follow redirects from the internet to this machine or its network.", "--allow-private"),
]
FetchTimeout = Annotated[
    float | None,
    opt.option(
        opt.INPUT, "Give a remote video up that takes longer to fetch than this.", "--timeout", metavar="SECONDS"
    ),
]

CacheAt = Annotated[
    str,
    opt.option(
        opt.FRAMES,
        "Keep the encodings of videos in this folder, so that another question costs no reading and no encoding; "
        "auto: in the user's cache folder; off: do not.",
        "--cache",
        metavar="DIR",
    ),
]
CacheLimit = Annotated[
    str,
    opt.option(
        opt.FRAMES, "The least recently used encodings go when the cache is larger.", "--cache-limit", metavar="SIZE"
    ),
]

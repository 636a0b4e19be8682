"""Opening a video file with PyAV, and saying in one line what is wrong with it."""

import errno
import stat
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ipcv.errors import MemoryExhaustedError, VideoError
from ipcv.media.video.animations import animated_png, is_animated_webp
from ipcv.processors import usable_processors
from ipcv.text import shown

AnyPacket = TypeVar("AnyPacket")
_LATE_STREAMS = 100  # streams that turn up in the middle of a file before the rest of it is given up
_TRANSPARENT = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders that know transparency
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"v=0\n", b"v=0\r\n")  # HLS, FFmpeg's own, PLS, SDP
_LEADING_ELSEWHERE = frozenset(
    "applehttp concat dash hls image2 imf lavfi rtp rtsp sap sdp vobsub webm_dash_manifest".split()  # noqa: SIM905
)


def check_file(path: Path) -> None:
    """Raise `VideoError` unless `path` is a readable, non-empty file."""
    name = shown(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise VideoError(f"{name} is a folder, not a video: give one file")
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{name} is not a regular file: save the video to a file first")
        if not status.st_size:
            raise VideoError(f"{name} is empty: copy or download it again")
        path.open("rb").close()
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def open_container(path: Path, *, cut: bool = True) -> InputContainer:
    """Open the file by its absolute path, so that no name is taken for a protocol. Raises `VideoError`.

    No other file and no address is opened, whatever the file names. `cut`: leave out what an edit list hides.
    """
    options = {"format_whitelist": _formats()} | ({} if cut else {"ignore_editlist": "1"})
    try:
        if _is_playlist(path):
            raise VideoError(
                f"{shown(path)} is a playlist, which only names other files or addresses: give a video, or make one "
                "with ffmpeg -i PLAYLIST -c copy video.mp4"
            )
        file = animated_png(path) if is_animated_webp(path) else str(path.absolute())
        return av.open(file, "r", metadata_errors="replace", options=options)
    except (av.error.FFmpegError, OSError) as error:
        raise unreadable(path, error) from error


@cache
def _formats() -> str:
    """The formats that hold their pictures themselves, as FFmpeg takes a list."""
    return ",".join(sorted(av.formats_available - _LEADING_ELSEWHERE))


def _is_playlist(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
    is_manifest = head.startswith(b"<") and (b"<MPD" in head or b"<SmoothStreamingMedia" in head)
    return head.startswith(_PLAYLISTS) or is_manifest


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Find the main moving-picture stream and let it decode in a few threads. Raises `VideoError` if there is none."""
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        kinds = ", ".join(sorted({str(other.type) for other in container.streams if other is not stream}))
        raise VideoError(f"{shown(path)} has no video stream, only {kinds or 'other data'}: give a file with pictures")
    if container.format.name == "tty":
        raise VideoError(f"{shown(path)} is a text file, not a video")
    if stream.codec_context is None:
        raise VideoError(
            f"{shown(path)} is compressed in a way that is not known here: convert it to H.264 with ffmpeg"
        )
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = min(usable_processors(), 4)  # each further thread holds one more full frame
    return stream


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """The decoder of a stream: FFmpeg's own, or Google's where a WebM file is transparent, which only that one sees."""
    name = _TRANSPARENT.get(codec_name(stream))
    if stream.metadata.get("alpha_mode") != "1" or name not in av.codecs_available:
        return stream.codec_context
    decoder = cast(VideoCodecContext, av.CodecContext.create(name, "r"))
    decoder.extradata = stream.codec_context.extradata
    decoder.thread_count = stream.codec_context.thread_count
    return decoder


def packets(container: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    """Yield the compressed frames in the file's order, as far as a damaged container can be read."""
    yield from _undamaged(lambda: container.demux(stream))


def all_packets(container: InputContainer) -> Iterator["Packet[Stream]"]:
    """Yield the packets of all streams, as far as a damaged container can be read."""
    yield from _undamaged(container.demux)


def _undamaged(demux: Callable[[], Iterator[AnyPacket]]) -> Iterator[AnyPacket]:
    for _ in range(_LATE_STREAMS):
        try:
            yield from demux()
        except IndexError:  # PyAV stops where a stream turns up in the middle, and goes on if it is asked again
            continue
        except av.error.FFmpegError:
            pass
        return


def decoded(decoder: VideoCodecContext, packet: "Packet[VideoStream] | None") -> list[VideoFrame]:
    """Decode a packet, or what is left in the decoder; a damaged one gives nothing.

    Raises `MemoryExhaustedError` where the decoder gets no memory, or no threads.
    """
    try:
        return decoder.decode(packet)
    except av.error.FFmpegError as error:
        if _ran_out(error) or (error.errno == errno.EAGAIN and not decoder.is_open):
            raise MemoryExhaustedError("no memory is left for a decoder: close other programs") from error
        return []


def codec_name(stream: VideoStream) -> str:
    """The name of the compression, whichever library decodes it."""
    return stream.codec_context.codec.canonical_name


def unreadable(path: Path, error: Exception) -> VideoError | MemoryExhaustedError:
    """Make an error that says in one line what is wrong with a file, why, and what would work."""
    if _ran_out(error):
        return MemoryExhaustedError(f"{shown(path)}: no memory is left to open it: close other programs")
    return VideoError(_reason(path, error))


def _ran_out(error: Exception) -> bool:
    """Whether memory ran out, going by the error's number: its text may name a file."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def _reason(path: Path, error: Exception) -> str:
    name = shown(path)
    if isinstance(error, FileNotFoundError):
        hint = "download the video first" if ":/" in str(path) else "check the path"
        return f"{name} does not exist: {hint}"
    if isinstance(error, PermissionError):
        return f"{name} may not be read: ask for permission (chmod +r) or copy it"
    if isinstance(error, av.error.InvalidDataError | av.error.ArgumentError | EOFError):
        return f"{name} {_damage(path)}"
    return f"{name} cannot be opened: {getattr(error, 'strerror', None) or error}"


def _damage(path: Path) -> str:
    """Say what an unreadable file is, judged by its first bytes."""
    with path.open("rb") as file:
        head = file.read(1024)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return "is cut off or was never finished (MP4 without its index): copy, download or record it again"
    if not set(head) & set(range(8)):
        return "is a text file, not a video"
    return "is not a video file, or is damaged: try to play it, or convert it with ffmpeg"

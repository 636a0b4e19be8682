"""The kind of a file by its first bytes alone: nothing is parsed, so that no file can do harm."""

HEAD = 4096  # bytes that are looked at

_SOUND_OR_STILL = (b"M4A ", b"M4B ", b"M4P ", b"avif", b"avis", b"heic", b"heix", b"heim", b"mif1", b"msf1", b"crx ")
_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF, WMV
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1 and MPEG-2 video
    b"\x00\x00\x01\xb0",  # MPEG-4 video
    b"GIF87a",
    b"GIF89a",
    b"DKIF",  # IVF
    b"YUV4MPEG2",
    b"nut/multimedia container\x00",
    b".RMF",
    b"\x06\x0e+4\x02\x05\x01\x01\r\x01\x02\x01\x01\x02",  # MXF
    b"\xb7\xd8\x00 7I\xdaI",  # WTV
    b"\x1f\x07\x00",  # DV
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"styp", b"pnot", b"sidx", b"moof")  # of MP4 and QuickTime
_OGG_VIDEO = (b"\x80theora", b"\x01video", b"OVP80", b"BBCD")
_PACKETS = ((188, 0), (192, 4), (204, 0))  # of MPEG transport streams: their length, and where the first one begins
_SPACE = b"\t\n\x0c\r\x1b"


def is_video(head: bytes) -> bool:
    """Whether a file that begins with `head` is a video, or an animated picture."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in _SOUND_OR_STILL
    if head.startswith(b"RIFF"):
        return head[8:12] in (b"AVI ", b"AVIX", b"CDXA") or is_animated(head)
    if head.startswith(b"\x89PNG"):
        return is_animated(head)
    if head.startswith(b"OggS"):
        return any(sign in head for sign in _OGG_VIDEO)
    return head.startswith(_STARTS) or head[4:8] in _BOXES or _is_transport_stream(head) or _is_raw(head)


def is_animated(head: bytes) -> bool:
    """Whether a WebP or PNG file is animated, or a GIF, of which nearly all are."""
    if head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X":
        return bool(head[20:21]) and bool(head[20] & 2)
    if head.startswith(b"\x89PNG"):
        return b"acTL" in head.partition(b"IDAT")[0]
    return head.startswith(b"GIF8")


def is_text(head: bytes) -> bool:
    """Whether there is something, and no byte that text does not have."""
    return bool(head) and not any(byte < 32 and byte not in _SPACE for byte in head)


def _is_transport_stream(head: bytes) -> bool:
    return any(len(head) > at + 3 * size and not set(head[at::size]) - {0x47} for size, at in _PACKETS)


def _is_raw(head: bytes) -> bool:
    """Whether it is H.264 or H.265 without a container: a start code, and the header of a parameter set."""
    start = next((code for code in (b"\x00\x00\x00\x01", b"\x00\x00\x01") if head.startswith(code)), None)
    if start is None or len(head) < len(start) + 2:
        return False
    first, second = head[len(start)], head[len(start) + 1]
    is_h264 = first in (0x67, 0x47, 0x27, 0x09)  # a sequence's parameters, or an access unit's delimiter
    return is_h264 or (first in (0x40, 0x42, 0x46) and second == 1)

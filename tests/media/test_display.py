"""Pictures as players show them: upright, on white, with whole lines, in the colours of an ordinary screen."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from films import corner_colours, film, number_in, number_picture, quarters

from ipcv.media.clip import Clip, open_video
from ipcv.media.display.colors import Colors
from ipcv.media.display.fields import deinterlaced
from ipcv.media.sampling import Sampling
from ipcv.media.video.probe import probe

PAINTED = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 128, 128), (200, 120, 40)]
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def pictures(clip: Clip) -> np.ndarray:
    return np.concatenate(list(clip))


# Display matrix


def laid_out(source: Path, target: Path, matrix: tuple[float, float, float, float]) -> Path:
    """The same MP4 with a, b, c, d in its display matrix: x, y go to a x + c y, b x + d y."""
    content = bytearray(source.read_bytes())
    a, b, c, d = (round(value * 65536) for value in matrix)
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(content)
    return target


@pytest.mark.parametrize(
    ("matrix", "corners", "mirrored", "rotation"),
    [
        ((1, 0, 0, 1), "RGBW", False, 0),
        ((-1, 0, 0, 1), "GRWB", True, 0),
        ((1, 0, 0, -1), "BWRG", True, 180),
        ((-1, 0, 0, -1), "WBGR", False, 180),
        ((0, 1, -1, 0), "BRWG", False, 90),
        ((0, -1, 1, 0), "GWRB", False, 270),
        ((0, 1, 1, 0), "RBGW", True, 270),
        ((0, -1, -1, 0), "WGBR", True, 90),
    ],
)
def test_every_turn_and_mirror_is_obeyed(tmp_path, matrix, corners, mirrored, rotation):
    path = film(tmp_path / "flat.mp4", times=(0.0, 0.1), pictures=[quarters(80, 160)] * 2)
    with open_video(laid_out(path, tmp_path / "laid.mp4", matrix)) as clip:
        assert {corner_colours(picture) for picture in pictures(clip)} == {corners}
    assert (clip.facts.mirrored, clip.facts.rotation) == (mirrored, rotation)
    assert clip.size == (clip.facts.height, clip.facts.width) == ((160, 80) if rotation % 180 else (80, 160))


def test_an_odd_angle_is_told(tmp_path):
    path = film(tmp_path / "flat.mp4", times=(0.0, 0.1), pictures=[quarters(80, 160)] * 2)
    video = probe(laid_out(path, tmp_path / "askew.mp4", (0.5, 0.866, -0.866, 0.5)))
    assert video.warnings == ("turned by an odd angle: shown at the nearest quarter turn (90°)",)
    assert video.facts.rotation == 90


# Transparency


QUIET = "log-level=error"


def painted(path: Path, codec: str, form: str, picture: np.ndarray, x265: str = QUIET, **settings: object) -> Path:
    """A film of four times this `picture` [height, width, channels], stored in a pixel format."""
    with av.open(path, "w") as output:
        stream = output.add_stream(codec, rate=10)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = form
        stream.codec_context.options = {"x265-params": x265} if codec == "libx265" else {}
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        given = {(4, 1): "rgba", (3, 1): "rgb24", (3, 2): "rgb48le"}[picture.shape[-1], picture.itemsize]
        matrix = settings.get("colorspace", 5)
        for index in range(4):
            frame = av.VideoFrame.from_ndarray(picture, format=given)
            frame = frame.reformat(format=form, dst_colorspace=matrix, dst_color_range=settings.get("color_range", 1))
            frame.pts, frame.time_base = index, Fraction(1, 10)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("codec", "form", "ending"),
    [
        ("prores_ks", "yuva444p10le", "mov"),
        ("qtrle", "argb", "mov"),
        ("png", "rgba", "mov"),
        ("apng", "rgba", "apng"),
        ("ffv1", "yuva420p", "mkv"),
        ("libvpx-vp9", "yuva420p", "webm"),
    ],
)
@pytest.mark.parametrize("size", [None, (32, 64)])
def test_transparent_parts_are_white(tmp_path, codec, form, ending, size):
    picture = np.zeros((64, 128, 4), np.uint8)  # nothing, and black underneath
    picture[16:48, 16:48] = (0, 0, 0, 255)
    picture[16:48, 80:112] = (255, 0, 0, 128)
    path = painted(tmp_path / f"film.{ending}", codec, form, picture)
    with open_video(path, resize=(lambda *_: size) if size else None) as clip:
        shown = pictures(clip)[0].astype(int)
    scale = 2 if size else 1
    assert shown[4 // scale, 4 // scale].min() > 250
    assert shown[32 // scale, 32 // scale].max() < 5
    assert np.abs(shown[32 // scale, 96 // scale] - (255, 127, 127)).max() < 8
    assert shown[:, 52 // scale : 76 // scale].min() > 245  # nothing runs out of the squares


# Interlacing


def woven(path: Path, codec: str, options: dict[str, str], count: int) -> Path:
    """Numbered pictures whose odd lines are taken half a picture later, while a bar moves."""
    flags = av.codec.context.Flags.interlaced_dct | av.codec.context.Flags.interlaced_me
    with av.open(path, "w") as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.flags |= flags
        stream.codec_context.gop_size = 6
        for number in range(count):
            picture = number_picture(number, height=96)
            picture[48:] = 0
            for field in (0, 1):
                left = 8 * number + 4 * field
                picture[48 + field :: 2, left : left + 16] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


WOVEN = {"mp4": ("libx264", {"x264-params": "tff=1", "crf": "5"}), "ts": ("mpeg2video", {"qscale": "2", "bf": "2"})}


@pytest.mark.parametrize("ending", WOVEN)
@pytest.mark.parametrize("fps", [25, 2])
def test_interlaced_pictures_are_made_whole_and_stay_in_place(tmp_path, ending, fps):
    with open_video(woven(tmp_path / f"woven.{ending}", *WOVEN[ending], 16), Sampling(fps=fps, max_frames=64)) as clip:
        shown = pictures(clip).astype(int)
    assert clip.facts.interlaced
    assert [number_in(picture[:48].astype(np.uint8)) for picture in shown] == [round(25 * when) for when in clip.times]
    combed = np.abs(shown[:, 60:84:2] - shown[:, 61:84:2]).mean()
    assert combed < 4, "as taken, neighbouring lines differ by 12"


def test_pictures_of_two_kinds_in_one_stream_keep_their_places(tmp_path):
    plain = film(tmp_path / "plain.mp4", times=[index / 10 for index in range(3)])
    frames = []
    for path in (plain, woven(tmp_path / "woven.mp4", *WOVEN["mp4"], 4), plain):
        with av.open(path) as container:
            frames += container.decode(video=0)
    out = list(deinterlaced(iter(frames)))
    assert [(frame.pts, frame.height) for frame in out] == [(frame.pts, frame.height) for frame in frames]
    assert not any(frame.interlaced_frame for frame in out)


def test_progressive_pictures_pass_unchanged(tmp_path):
    path = film(tmp_path / "plain.mp4", times=[index / 10 for index in range(6)])
    video = probe(path)
    assert not video.facts.interlaced
    with av.open(path) as container:
        frames = list(container.decode(video=0))
    assert all(one is other for one, other in zip(deinterlaced(iter(frames)), frames, strict=True))


# Colours


def patches(height: int = 64, width: int = 192) -> np.ndarray:
    """The painted colours side by side, as light: 1 is white."""
    code = np.repeat(np.array(PAINTED)[None], height, axis=0).repeat(width // len(PAINTED), axis=1) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def colors_in(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    return picture[height // 2, width // 12 :: width // 6].astype(int)


def pq(light: np.ndarray) -> np.ndarray:
    power = (light * 203 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg(light: np.ndarray) -> np.ndarray:
    """As a screen of 1,000 cd/m² shows it."""
    display = light * 0.203
    luminance = np.maximum(display @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
    scene = display * luminance ** (-0.2 / 1.2)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


def srgb(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


CODINGS = {"pq": (pq, 16), "hlg": (hlg, 18), "sdr": (srgb, 14)}


@pytest.mark.parametrize(("codec", "ending"), [("libx265", "mp4"), ("ffv1", "mkv")])
@pytest.mark.parametrize("dynamic_range", CODINGS)
def test_hdr_and_wide_colours_come_out_as_painted(tmp_path, codec, ending, dynamic_range):
    encode, transfer = CODINGS[dynamic_range]
    picture = np.rint(np.clip(encode(patches() @ TO_BT2020.T), 0, 1) * 65535).astype(np.uint16)
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    path = painted(tmp_path / f"film.{ending}", codec, "yuv420p10le", picture, **tags)
    with open_video(path) as clip:
        shown = colors_in(pictures(clip)[0])
    assert np.abs(shown - PAINTED).max() <= (12 if dynamic_range == "sdr" else 24)
    assert clip.facts.dynamic_range == dynamic_range
    told = [warning for warning in clip.warnings if warning.startswith("HDR")]
    assert len(told) == (dynamic_range != "sdr")


def test_tags_of_the_container_alone_are_obeyed(tmp_path):
    """The decoder forgets them: its stream says that nothing is known."""
    picture = np.rint(pq(patches() @ TO_BT2020.T) * 65535).astype(np.uint16)
    path = painted(
        tmp_path / "film.mp4",
        "libx265",
        "yuv420p10le",
        picture,
        x265=f"{QUIET}:colorprim=unknown:transfer=unknown:colormatrix=unknown",
        color_trc=16,
        color_primaries=9,
        colorspace=9,
    )
    with av.open(path) as container:
        assert next(container.decode(video=0)).color_trc == 2
    with open_video(path) as clip:
        assert np.abs(colors_in(pictures(clip)[0]) - PAINTED).max() <= 24
    assert clip.facts.dynamic_range == "pq"


def test_brighter_than_white_stays_brighter():
    light = np.array([0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0])
    picture = np.rint(pq(light)[None, :, None].repeat(3, axis=2) * 65535).astype(np.uint16)
    shown = Colors("pq", "bt2020").for_screen(picture)[0, :, 0].astype(int)
    assert np.all(np.diff(shown) > 0)
    assert np.abs(shown[:3] - 255 * srgb(light[:3])).max() < 1.5
    assert (shown[3], shown[-1]) == (237, 254)


@pytest.mark.parametrize(("matrix", "span"), [(1, 1), (1, 2), (5, 1), (5, 2)])
def test_matrix_and_range_of_a_file_are_obeyed(tmp_path, matrix, span):
    """BT.709 (1) and BT.601 (5); limited (1) and full (2)."""
    picture = np.rint(255 * srgb(patches())).astype(np.uint8)
    path = painted(tmp_path / "film.mp4", "libx264", "yuv420p", picture, colorspace=matrix, color_range=span)
    with open_video(path) as clip:
        assert np.abs(colors_in(pictures(clip)[0]) - PAINTED).max() <= 6

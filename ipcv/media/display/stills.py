"""A still as an ordinary screen shows it: eight bits, in sRGB, transparent parts on white."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from ipcv.media.frames import FrameArray


def for_screen(image: Image.Image) -> tuple[FrameArray, list[str]]:
    """The pixels of an image (uint8 RGB [height, width, 3]), and warnings of what had to be made up."""
    eight, stretched = _of_eight_bits(image)
    standard, damaged = _in_srgb(eight)
    return _on_white(standard), stretched + damaged


def _of_eight_bits(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Pillow's own conversion would cut brighter parts off."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8)), []
    if image.mode not in ("I", "F"):
        return image, []
    values = np.asarray(image, dtype=np.float64)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    part = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    told = f"its values, {low:g} to {high:g}, are shown as black to white"
    return Image.fromarray(np.rint(255 * part).astype(np.uint8)), [told]


def _in_srgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Convert colours of another profile, such as the Display P3 of telephones."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image, []
    try:
        given = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(given).lower():
            return image, []
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return _converted(image, given, mode), []
    except Exception:  # whatever is wrong with the profile, the picture is there
        return image, ["its colour profile is damaged: its colours are shown without it"]


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile, mode: str) -> Image.Image:
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    if converted is None:
        raise ValueError("nothing was converted")
    return converted


def _on_white(image: Image.Image) -> FrameArray:
    """Lay transparent parts on white, and return the pixels."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"), dtype=np.uint8)

"""What the first bytes of an image file say: who can decode it, how it is turned, how large it is."""

import io
import os
import re
import struct
import threading
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from recipes.common.optional import optional
from recipes.common.types import Path
from recipes.data.in_record import opened_image

# TensorFlow decodes these two, Pillow all others.
JPEG, PNG, PILLOW = 0, 1, 2
# A file with such an ending has to be an image; one with another ending is an image if it begins like one.
ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .gif .bmp .dib .webp .tif .tiff .avif .avifs .heic .heif .hif .jp2 .j2k .jpx "
    ".ppm .pgm .pbm .pnm .mpo .tga .ico".split()
)
_RAW = frozenset(".cr2 .cr3 .nef .arw .dng .orf .rw2 .raf .pef .srw .svg .psd .xcf .jxl".split())
_PILLOW_STARTS = (
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
    b"\xffO\xffQ",
    b"II+\0",
    b"MM\0+",
    b"\0\0\1\0",
)
_MOST_PIXELS = 2**27  # 400 MB in color, and as many of them as there are cores are decoded at once
_ORIENTATION = 0x0112
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_SEGMENTS_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Header:
    """What the header of an image file says.

    Attributes:
        kind: `JPEG`, `PNG` or `PILLOW`: who decodes it.
        orientation: EXIF's number, 1 to 8; 1 for `PILLOW`, which turns the image when it decodes it.
        height: Pixels from top to bottom, after turning.
        width: Pixels from left to right, after turning.
        gray: Whether it has no colors.
    """

    kind: int
    orientation: int
    height: int
    width: int
    gray: bool


class _Quiet:
    """Pillow warns about damaged metadata in good images; this keeps it silent while any thread is inside."""

    def __init__(self):
        self.lock, self.inside, self.caught = threading.Lock(), 0, None

    def __enter__(self):
        with self.lock:
            if not self.inside:
                self.caught = warnings.catch_warnings()
                self.caught.__enter__()
                warnings.simplefilter("ignore")
            self.inside += 1

    def __exit__(self, *error):
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.caught.__exit__(None, None, None)


_QUIET = _Quiet()


class NotAnImageError(ValueError):
    """Why a file cannot be used, in a few words."""


class MissingReaderError(NotAnImageError, ImportError):
    """A file that needs an extra which is not installed."""


def ending(file: Path) -> str:
    """The ending of a file's name in lower case, with its dot."""
    return os.path.splitext(os.fspath(file))[1].lower()


def is_image(file: Path) -> bool:
    """Whether a file should be an image: by its ending, or else by its first bytes."""
    if ending(file) in ENDINGS or ending(file) in _RAW:
        return True
    try:
        with open(file, "rb") as opened:
            return kind_of(opened.read(32)) is not None
    except OSError:
        return False


def look(file: Path) -> Header:
    """Read the header of a file.

    Raises:
        NotAnImageError: for a file that is not an image, or one that is not safe to decode.
    """
    if ending(file) in _RAW:
        raise NotAnImageError(f"{ending(file)} files are not decoded; export it as JPEG or PNG.")
    try:
        with opened_image(file) as opened:
            start = opened.read(32)
            kind = PILLOW if start and ending(file) == ".tga" else kind_of(start)
            if kind is None:
                raise NotAnImageError("Empty file." if not start else "Unknown image file format.")
            opened.seek(0)
            found = {JPEG: _look_at_jpeg, PNG: _look_at_png, PILLOW: _look_at_other}[kind](opened)
    except OSError as error:
        raise NotAnImageError(error.strerror or str(error)) from error
    if found.height * found.width > _MOST_PIXELS:
        raise NotAnImageError(
            f"Declares {found.width} x {found.height} pixels, more than the {_MOST_PIXELS:,} that are safe to decode."
        )
    return found


def kind_of(start: bytes) -> int | None:
    """`JPEG`, `PNG` or `PILLOW` for the first 32 bytes of an image, None for anything else."""
    if start.startswith(b"\xff\xd8\xff"):
        return JPEG
    if start.startswith(b"\x89PNG"):
        return PNG
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    boxes = start[4:8] == b"ftyp" and start[8:12] in (
        b"avif",
        b"avis",
        b"heic",
        b"heix",
        b"hevc",
        b"heim",
        b"heis",
        b"mif1",
        b"msf1",
    )
    netpbm = re.match(rb"P[1-6]\s", start)
    return PILLOW if start.startswith(_PILLOW_STARTS) or webp or boxes or netpbm else None


def _look_at_jpeg(opened):
    """Walk from marker to marker up to the first scan (ITU T.81, annex B)."""
    opened.seek(2)
    orientation, frame = 1, None
    while frame is None or orientation == 1:
        byte = opened.read(1)
        while byte and byte != b"\xff":  # stray bytes between segments
            byte = opened.read(1)
        marker = opened.read(1)
        while marker == b"\xff":  # padding
            marker = opened.read(1)
        if not marker or marker in (b"\xda", b"\xd9"):
            break
        if marker[0] in _SEGMENTS_WITHOUT_LENGTH or marker == b"\0":
            continue
        length = int.from_bytes(opened.read(2), "big") - 2
        if length < 0:
            break
        if marker[0] in _FRAMES:
            frame = opened.read(length)
        elif marker == b"\xe1":
            orientation = _orientation_of_segment(opened.read(length), orientation)
        else:
            opened.seek(length, io.SEEK_CUR)
    if frame is None or len(frame) < 6:
        raise NotAnImageError("Truncated or damaged JPEG: it ends before its size is declared.")
    height, width, components = struct.unpack(">HHB", frame[1:6])
    return _header(JPEG, orientation, height, width, components == 1)


def _orientation_of_segment(content, orientation):
    if content.startswith(b"Exif\0"):
        return _exif_orientation(content) or orientation
    if content.startswith(b"http://ns.adobe.com/xap/") and orientation == 1:
        found = _XMP.search(content)
        return int(found[1]) if found else orientation
    return orientation


def _exif_orientation(content):
    exif = Image.Exif()
    try:
        with _QUIET:
            exif.load(content)
        number = exif.get(_ORIENTATION)
    except (
        Exception
    ):  # damaged metadata of a good image: whatever Pillow raises there, it says no orientation
        return None
    return number if isinstance(number, int) and 1 <= number <= 8 else None


def _look_at_png(opened):
    """Walk from chunk to chunk (https://www.w3.org/TR/png-3, section 5)."""
    head = opened.read(33)
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise NotAnImageError("Truncated or damaged PNG: it ends before its size is declared.")
    width, height, _, color = struct.unpack(">IIBB", head[16:26])
    orientation = 1
    while len(start := opened.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        if name == b"IEND" or length >= 2**31:
            break
        if name == b"eXIf":
            orientation = _exif_orientation(b"Exif\0\0" + opened.read(length)) or orientation
            opened.seek(4, io.SEEK_CUR)
        elif name == b"iTXt" and length < 2**20 and orientation == 1:
            found = _XMP.search(opened.read(length))
            orientation = int(found[1]) if found else orientation
            opened.seek(4, io.SEEK_CUR)
        else:
            opened.seek(length + 4, io.SEEK_CUR)
    return _header(PNG, orientation, height, width, color in (0, 4))


def _look_at_other(opened):
    start = opened.read(30)
    declared = _declared_size(start)
    if declared[0] * declared[1] > _MOST_PIXELS:
        return Header(PILLOW, 1, declared[1], declared[0], False)
    opened.seek(0)
    with _QUIET, _opened(opened) as image:
        try:
            orientation = image.getexif().get(_ORIENTATION, 1)
        except Exception:  # as above
            orientation = 1
        width, height = image.size
        gray = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
        turned = _header(PILLOW, orientation if orientation in range(1, 9) else 1, height, width, gray)
    return Header(PILLOW, 1, turned.height, turned.width, gray)


def _declared_size(start):
    if start.startswith(b"GIF8"):
        return struct.unpack("<HH", start[6:10].ljust(4, b"\0"))
    if start.startswith(b"BM"):
        return tuple(abs(side) for side in struct.unpack("<ii", start[18:26].ljust(8, b"\0")))
    return 0, 0


def _header(kind, orientation, height, width, gray):
    if height < 1 or width < 1:
        raise NotAnImageError(f"Declares {width} x {height} pixels.")
    if orientation >= 5:
        height, width = width, height
    return Header(kind, orientation, height, width, gray)


def _opened(file):
    """A Pillow image of an open file."""
    start = file.read(12)
    file.seek(0)
    if start[4:8] == b"ftyp" and start[8:11] != b"avi":
        try:
            heif = optional("data.read_image of HEIC files", "pillow_heif", "pillow-heif", "heif")
        except ImportError as error:
            raise MissingReaderError(
                "A HEIC file needs pillow-heif: pip install 'keras-recipes[heif]'."
            ) from error
        heif.register_heif_opener()
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        raise NotAnImageError("Unknown image file format.") from None
    except Image.DecompressionBombError:
        raise NotAnImageError("Declares more pixels than are safe to decode.") from None
    except (ValueError, SyntaxError, struct.error, OverflowError, KeyError, TypeError, EOFError) as error:
        raise NotAnImageError(f"Damaged: {error}") from error


def decode_with_pillow(file: Path) -> Image.Image:
    """The first picture of a file, turned as EXIF says, in mode L, LA, RGB or RGBA.

    Raises:
        NotAnImageError: when it does not decode.
    """
    with opened_image(file) as opened, _QUIET, _opened(opened) as image:
        try:
            image.load()
            image = ImageOps.exif_transpose(image)
        except (OSError, ValueError, SyntaxError, struct.error, EOFError, IndexError, TypeError) as error:
            raise NotAnImageError(str(error) or type(error).__name__) from error
        return _as_plain_mode(image)


def _as_plain_mode(image):
    mode = image.mode
    if mode in ("L", "LA", "RGB", "RGBA"):
        if mode in ("L", "RGB") and "transparency" in image.info:
            return image.convert("RGBA")
        return image
    if mode.startswith("I;16") or mode == "I":
        low, high = image.getextrema()
        if low < 0 or high > 65535:
            raise NotAnImageError(f"Holds whole numbers from {low} to {high}; save it with 8 or 16 bits.")
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if mode == "F":
        raise NotAnImageError("Holds floats; save it with 8 or 16 bits.")
    if mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if mode in ("PA", "RGBa") or "transparency" in image.info else "RGB")

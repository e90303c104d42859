"""From an image file to pixels: one path for training, evaluation and prediction.

| in the file                         | becomes                                                        |
|-------------------------------------|----------------------------------------------------------------|
| grey (1, 8 or 16 bit)               | 1 channel; 16 bit are divided by 257, not clipped              |
| colour, CMYK, palette               | 3 channels                                                     |
| transparency                        | shown on white                                                  |
| rotated by EXIF (telephone cameras) | turned upright                                                 |
| animated                            | its first frame                                                |
| damaged metadata                    | ignored                                                        |
"""

import contextlib
import functools
import io
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pbl.data.paths import is_hidden
from pbl.errors import InputError, Sentence
from pbl.storage.writing import expand_pattern

EXTENSIONS = frozenset(
    ".avif .bmp .dib .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
HEIF = frozenset({".heic", ".heif", ".hif"})  # read if pillow-heif is installed; else an error names them
LISTED = EXTENSIONS | HEIF
VALID = "JPEG, PNG, BMP, GIF, WebP, TIFF, PPM, JPEG 2000, AVIF"
# Pictures and films that are not read; raw files of cameras begin as TIFF does.
PICTURES = frozenset(
    ".arw .avi .cr2 .cr3 .dcm .dng .ico .jxl .mov .mp4 .nef .nii .orf .psd .raf .raw .rw2 .svg".split()
)
# Files of these kinds are often next to images; they are not opened to see whether they are images.
NO_IMAGES = PICTURES | frozenset(
    ".7z .cfg .csv .db .doc .docx .gz .h5 .htm .html .ini .ipynb .json .log .mat .md .npy .npz .pdf .pkl .pt .py .rar"
    " .tar .tsv .txt .xls .xlsx .xml .yaml .yml .zip".split()
)
# The first bytes of the image formats in EXTENSIONS and HEIF.
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|BM.{4}\0\0\0\0|RIFF.{4}WEBP|II\*\0|MM\0\*|P[1-6]\s|\0\0\0\x0cjP  |\xff\x4f\xff\x51"
    rb"|.{4}ftyp(?:avi[fs]|hei[cxms]|hev[cxms]|mif1|msf1)",
    re.DOTALL,
)
_IS_HEIF = re.compile(rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)
_TURNS = dict(
    enumerate("FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90".split(), 2)
)
_ORIENTATION = 0x0112  # the tag of EXIF
MOST_PIXELS = 100_000_000  # of one image; telephone cameras have about 50 million. Decoding takes 4 or 8 bytes a pixel
DECODING_BYTES = 8  # per pixel, at most: the decoded copy, and one that is turned or in another colour mode
_STRIP = 1 << 18  # bytes that are copied at a time


def is_image_file(file: str | Path) -> bool:
    """Whether a regular file is an image: by the ending of its name, or by its first bytes if the ending is not known."""
    suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122, a Path for each of 100,000 files takes seconds
    if suffix in LISTED:
        return True
    if suffix in NO_IMAGES:
        return False
    try:
        with Path(file).open("rb") as stream:
            return begins_as_image(stream.read(32))
    except OSError:
        return False


def begins_as_image(content: bytes) -> bool:
    """Whether a file that begins with these bytes, 12 or more, is of a format that is read."""
    return _BEGINNINGS.match(content) is not None


def read_image(file: str | Path) -> np.ndarray:
    """Reads an image file into `uint8 [height, width, 1 or 3]` by the rules above.

    Raises:
        InputError: The file is missing, empty, truncated or not an image.

    Example:
        >>> from pbl.data import read_image
        >>> read_image("photos/zero/0.png").shape
        (32, 32, 1)
    """
    file = Path(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError("{file}: {reason}. Give an image file.", file=file, reason=error.strerror) from None
    return decode_image(content, name=str(file))


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decodes the bytes of an image file into `uint8 [height, width, 1 or 3]` by the rules above.

    Args:
        content: The content of the file.
        name: The file's name in errors.

    Raises:
        InputError: The bytes are empty, truncated, too large (`MOST_PIXELS`) or not an image.
        MemoryError: There is not enough memory. This says nothing about the image.

    Example:
        >>> from pathlib import Path
        >>> from pbl.data import decode_image
        >>> decode_image(Path("photos/zero/0.png").read_bytes(), "0.png").shape
        (32, 32, 1)
    """
    with without_warnings():
        return to_array(open_picture(content, name)[0])


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Inside it Pillow does not warn about damaged metadata, and about images that are large but are read. Threads must not enter it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def open_picture(
    content: bytes, name: str, reserve: Callable[[int], object] = lambda needed: None
) -> tuple[Image.Image, bool]:
    """Decodes the bytes of an image file into a Pillow image, upright, of mode L or RGB; best inside `without_warnings`.

    Args:
        content, name: As for `decode_image`, which raises the same errors.
        reserve: Called before decoding, with the most bytes that decoding takes.

    Returns:
        The image; and whether metadata (EXIF, colour profile, comments) were damaged and ignored.
    """
    if not content:
        raise InputError("{name} is empty (0 bytes). Copy or download it again.", name=name)
    try:
        try:
            return _decode(content, reserve), False
        except (MemoryError, _TooLarge):
            raise
        except Exception as error:
            _raise_without_memory(content, error)
            bare = _without_metadata(content)
            if bare is None:
                raise
            return _decode(bare, reserve, _read_orientation(content)), True
    except _TooLarge as error:
        raise InputError(
            "{name} has {pixels:.0f} million pixels, and at most {limit:.0f} million are read. Make it smaller: a network uses a few hundred "
            "pixels a side.",
            name=name,
            pixels=error.pixels / 1e6,
            limit=MOST_PIXELS / 1e6,
        ) from None
    except UnidentifiedImageError:
        if _IS_HEIF.match(content):
            raise InputError(
                "{name} is HEIC, which is not supported. Install pillow-heif (pip install pillow-heif), or export it as JPEG (on an iPhone: "
                "Settings, Camera, Formats, Most Compatible).",
                name=name,
            ) from None
        raise InputError("{name} is not an image that can be read. Valid: {valid}.", name=name, valid=VALID) from None
    except MemoryError:
        raise  # says nothing about the image
    except Exception as error:
        # For damaged files Pillow raises nearly any exception: SyntaxError for a PNG, struct.error, TypeError for a TIFF.
        _raise_without_memory(content, error)
        raise InputError(
            "{name} cannot be decoded: {error}. Copy it again or leave it out.",
            name=name,
            error=error.args[0] if error.args and isinstance(error.args[0], Sentence) else error,
        ) from None


class _TooLarge(Exception):
    def __init__(self, pixels: int):
        self.pixels = pixels


def count_pixels(content: bytes) -> int:
    """How many pixels an image has according to its header; 0 if it cannot be read."""
    with contextlib.suppress(Exception), opened(content) as image:  # damaged files raise nearly any exception
        return image.width * image.height
    return 0


def _raise_without_memory(content: bytes, error: Exception) -> None:
    """Raises MemoryError if the error may come from a lack of memory: some of Pillow's decoders report that as another error."""
    if "out of memory" in str(error):
        raise MemoryError from None
    bytearray(min(count_pixels(content), MOST_PIXELS) * DECODING_BYTES)  # raises MemoryError if there is not enough


@functools.cache
def _formats() -> list[str]:
    """The formats of Pillow that are read: others pass a file to other programs, as EPS does to Ghostscript."""
    Image.init()
    read = ["JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF"]
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
        read.append("HEIF")
    except ImportError:
        pass
    return [name for name in read if name in Image.OPEN]


@contextlib.contextmanager
def opened(content: bytes) -> Iterator[Image.Image]:
    """The image, after only its header was read."""
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as image:
            yield image
    except Image.DecompressionBombError as error:  # Pillow's own limit, about 179 million pixels
        raise _TooLarge(int(re.search(r"\d+", str(error))[0])) from None


def _decode(content: bytes, reserve: Callable[[int], object], orientation: int | None = None) -> Image.Image:
    with opened(content) as image:
        if image.width * image.height > MOST_PIXELS:
            raise _TooLarge(image.width * image.height)
        reserve(image.width * image.height * DECODING_BYTES)
        image.load()
        if orientation is None:
            orientation = _find_orientation(image)
        return _make_upright(image, orientation)


def _find_orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF raises nearly any exception
        return 1


def _make_upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image as it is seen, of mode L or RGB."""
    # 16 bits; convert("L") would clip them at 255. For a PGM file Pillow returns 32 bits with values 0 to 65535.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        image = Image.fromarray((np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(Sentence("it has 32 bits a pixel; save it with 8 or 16"))
    if orientation in _TURNS:
        image = image.transpose(Image.Transpose[_TURNS[orientation]])
    if image.has_transparency_data:
        is_grey = image.mode in ("LA", "La", "L", "1")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert("L" if is_grey else "RGB")
    return _as_mode(image, "L" if image.mode in ("1", "L") else "RGB")


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # convert always makes a copy


def find_shape(picture: Image.Image) -> tuple[int, int, int]:
    """Height, width and channels of an image of mode L or RGB."""
    return picture.height, picture.width, len(picture.getbands())


def strips(picture: Image.Image) -> Iterator[bytes]:
    """The pixels, row after row, some rows at a time: to take all at once would copy them three times."""
    height, width, channels = find_shape(picture)
    rows = max(1, _STRIP // (width * channels))
    if rows >= height:
        yield picture.tobytes()
        return
    for top in range(0, height, rows):
        yield picture.crop((0, top, width, min(height, top + rows))).tobytes()


def to_array(picture: Image.Image) -> np.ndarray:
    """`uint8 [height, width, 1 or 3]` of an image of mode L or RGB."""
    shape = find_shape(picture)
    pixels = np.empty(math.prod(shape), np.uint8)
    at = 0
    for strip in strips(picture):
        pixels[at : at + len(strip)] = np.frombuffer(strip, np.uint8)
        at += len(strip)
    return pixels.reshape(shape)


def _pieces(content: bytes) -> list[tuple[bytes, bytes, bytes]] | None:
    """Splits a PNG or JPEG file into (kind, all bytes, body); what follows the metadata is the last piece."""
    pieces, at = [], 8
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        while len(content) >= at + 12:
            size = int.from_bytes(content[at : at + 4]) + 12
            pieces.append((content[at + 4 : at + 8], content[at : at + size], content[at + 8 : at + size - 4]))
            at += size
    elif content.startswith(b"\xff\xd8"):
        at = 2
        while len(content) >= at + 4 and content[at] == 0xFF and content[at + 1] != 0xDA:  # start of scan
            size = int.from_bytes(content[at + 2 : at + 4]) + 2
            pieces.append((content[at + 1 : at + 2], content[at : at + size], content[at + 4 : at + size]))
            at += size
    else:
        return None
    return [*pieces, (b"", content[at:], b"")]


def _without_metadata(content: bytes) -> bytes | None:
    """The file reduced to what its pixels need; None if it has another format or nothing else to remove."""
    pieces = _pieces(content)
    if pieces is None:
        return None
    if content.startswith(b"\x89"):
        head, needed = content[:8], {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b""}
        kept = [whole for kind, whole, _ in pieces if kind in needed]
    else:  # APP1 to APP15 and comments are removed, except APP14, which says how the colours are coded
        head = content[:2]
        kept = [
            whole for kind, whole, _ in pieces if not (b"\xe1" <= kind <= b"\xef" or kind == b"\xfe") or kind == b"\xee"
        ]
    return head + b"".join(kept) if len(kept) < len(pieces) else None


def _read_orientation(content: bytes) -> int:
    """The orientation in the EXIF of a file that Pillow does not open unchanged."""
    for kind, _, body in _pieces(content) or ():
        if kind == b"eXIf" or (kind == b"\xe1" and body.startswith(b"Exif")):
            try:
                exif = Image.Exif()
                exif.load(body if body.startswith(b"Exif") else b"Exif\0\0" + body)
                return exif.get(_ORIENTATION, 1)
            except MemoryError:
                raise
            except Exception:  # damaged EXIF raises nearly any exception
                return 1
    return 1


def fit_image(image: np.ndarray, size: tuple[int, int], channels: int, fit: str = "crop") -> np.ndarray:
    """Brings an image to the input shape of a model.

    Args:
        image: `uint8 [height, width, 1 or 3]`.
        size: Height and width wanted, in pixels.
        channels: 1 (grey: ITU-R 601 luma of the colours) or 3.
        fit: `crop` fills the shape and cuts off what exceeds it on both sides; `pad` shows the complete image between
            black bars; `stretch` distorts it. Bilinear with antialiasing. An image of that size is not changed.

    Returns:
        `uint8 [*size, channels]`.

    Example:
        >>> from pbl.data import fit_image, read_image
        >>> fit_image(read_image("photos/zero/0.png"), size=(16, 24), channels=3, fit="pad").shape
        (16, 24, 3)
    """
    if image.shape == (*size, channels):
        return image
    picture = fit_picture(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), size, channels, fit)
    return np.asarray(picture).reshape(*size, channels)


def fit_picture(picture: Image.Image, size: tuple[int, int], channels: int, fit: str = "crop") -> Image.Image:
    """As `fit_image`, for a Pillow image of mode L or RGB."""
    picture = _as_mode(picture, "L" if channels == 1 else "RGB")
    width_height = (size[1], size[0])
    if picture.size != width_height:
        resize = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}[fit]
        picture = resize(picture, width_height, Image.Resampling.BILINEAR)
    return picture


def unfit_mask(mask: np.ndarray, shape: tuple[int, int], fit: str = "crop") -> np.ndarray:
    """Brings the mask of a fitted image back to the size of the original image, by nearest neighbour.

    Args:
        mask: `uint8 [height, width]`, of an image that `fit_image` returned.
        shape: Height and width of the original image.
        fit: As for `fit_image`. The network never saw what `crop` cut off: the mask is 0 there.

    Returns:
        `uint8 [*shape]`.
    """
    height, width = shape
    scale = max if fit == "crop" else min  # of the fitted size divided by the original size
    factor = scale(mask.shape[0] / height, mask.shape[1] / width)
    across = (factor, factor) if fit != "stretch" else (mask.shape[0] / height, mask.shape[1] / width)
    # The middle of each pixel, in the fitted mask; both have the same centre.
    rows, columns = (
        np.floor((np.arange(own) + 0.5 - own / 2) * of + fitted / 2).astype(int)
        for own, of, fitted in zip(shape, across, mask.shape, strict=True)
    )
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
    found = mask[rows.clip(0, mask.shape[0] - 1)[:, None], columns.clip(0, mask.shape[1] - 1)]
    return np.where(inside, found, 0).astype(np.uint8)


def find_image_files(paths: list[str | Path]) -> list[Path]:
    """Returns the image files among `paths`: files as they are, folders searched with all subfolders, sorted by name.

    Hidden files and what macOS leaves (`.DS_Store`, `__MACOSX`) are skipped.

    Raises:
        InputError: A path does not exist, or a folder holds no image.

    Example:
        >>> from pbl.data import find_image_files
        >>> [file.as_posix() for file in find_image_files(["photos"])][:2]
        ['photos/one/0.png', 'photos/one/1.png']
    """
    files: list[Path] = []
    for path in [place for word in paths for place in expand_pattern(word)]:
        if path.is_dir():
            found = sorted(
                file
                for file in path.rglob("*")
                if file.is_file()
                and not any(is_hidden(part) for part in file.relative_to(path).parts)
                and is_image_file(file)
            )
            if not found:
                raise InputError(
                    "There is no image in the folder {path}. Searched for: {kinds}.",
                    path=path,
                    kinds=", ".join(sorted(EXTENSIONS)),
                )
            files += found
        elif path.is_file():
            files.append(path)
        elif re.match(r"https?:/", str(path)):
            raise InputError("{path} is a web address. Download the image first, then give its file.", path=path)
        else:
            raise InputError("No file or folder {path}. Give the path of an image or of a folder of images.", path=path)
    return files

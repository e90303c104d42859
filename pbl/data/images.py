"""From an image file to pixels: one path for training, evaluation and prediction.

| in the file                         | becomes                                                        |
|-------------------------------------|----------------------------------------------------------------|
| grey (1, 8 or 16 bit)               | 1 channel; 16 bit are divided by 257, not clipped              |
| colour, CMYK, palette               | 3 channels                                                     |
| transparency                        | laid on white                                                  |
| rotated by EXIF (telephone cameras) | turned upright                                                 |
| animated                            | its first frame                                                |
"""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pbl.errors import InputError, Sentence

EXTENSIONS = frozenset({".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# These cannot be read; they are listed so that an error names them.
LISTED = EXTENSIONS | {".avif", ".heic", ".heif"}


def read_image(file: str | Path) -> np.ndarray:
    """Reads an image file into `uint8 [height, width, 1 or 3]` by the rules above.

    Raises:
        InputError: The file is missing, empty, truncated or no image.
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
        content: What stands in the file.
        name: How errors call it.

    Raises:
        InputError: The bytes are empty, truncated, too large (over 178 million pixels) or no image.
    """
    if not content:
        raise InputError("{name} is empty (0 bytes). Copy or download it again.", name=name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # above twice that size Pillow raises an error
            with Image.open(io.BytesIO(content)) as image:
                return _to_pixels(image)
    except UnidentifiedImageError:
        if content[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
            raise InputError(
                "{name} is HEIC, which is not read. Export it as JPEG (on an iPhone: Settings, Camera, Formats, Most Compatible).",
                name=name,
            ) from None
        raise InputError(
            "{name} is not an image that can be read. Valid: JPEG, PNG, BMP, GIF, WebP, TIFF.", name=name
        ) from None
    except Exception as error:
        # On damaged files Pillow raises nearly any exception: SyntaxError for a PNG, struct.error for EXIF, TypeError for a TIFF.
        raise InputError(
            "{name} cannot be decoded: {error}. Copy it again or leave it out.",
            name=name,
            error=error.args[0] if error.args and isinstance(error.args[0], Sentence) else error,
        ) from None


def _to_pixels(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # convert("L") would clip them at 255
        image = Image.fromarray((np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(Sentence("it has 32 bits a pixel; save it with 8 or 16"))
    if image.has_transparency_data:
        is_grey = image.mode in ("LA", "La", "L", "1")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert("L" if is_grey else "RGB")
    pixels = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    return pixels.reshape(*pixels.shape[:2], -1)


def fit_image(image: np.ndarray, size: tuple[int, int], channels: int, fit: str = "crop") -> np.ndarray:
    """Brings an image to the shape that a model takes.

    Args:
        image: `uint8 [height, width, 1 or 3]`.
        size: Height and width wanted, in pixels.
        channels: 1 (grey: ITU-R 601 luma of the colours) or 3.
        fit: `crop` fills the shape and cuts off what stands over on both sides; `pad` shows all of it between
            black bars; `stretch` distorts it. Bilinear with antialiasing. An image of that size is not touched.

    Returns:
        `uint8 [*size, channels]`.
    """
    if image.shape == (*size, channels):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture = picture.convert("L" if channels == 1 else "RGB")
    width_height = (size[1], size[0])
    if picture.size != width_height:
        resize = {"crop": ImageOps.fit, "pad": ImageOps.pad, "stretch": Image.Image.resize}[fit]
        picture = resize(picture, width_height, Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(*size, channels)


def find_image_files(paths: list[str | Path]) -> list[Path]:
    """Returns the image files among `paths`: files as they are, folders searched to the bottom, sorted by name.

    Hidden files and what macOS leaves (`.DS_Store`, `__MACOSX`) are skipped.

    Raises:
        InputError: A path does not exist, or a folder holds no image.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in LISTED
                and file.is_file()
                and not any(part.startswith(".") or part == "__MACOSX" for part in file.relative_to(path).parts)
            )
            if not found:
                raise InputError(
                    "No image in the folder {path}. Looked for: {kinds}.",
                    path=path,
                    kinds=", ".join(sorted(EXTENSIONS)),
                )
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InputError("No file or folder {path}. Give the path of an image or of a folder of images.", path=path)
    return files

"""Formats, sizes and faults of the files that TensorFlow decodes, from their headers.

Follows the decoders in `decoding`: a header's size is that of the decoded picture, the
whole canvas and upright. Reads as little of a file as possible.
"""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

DAMAGED = "its contents are damaged"
CUT_SHORT = f"{DAMAGED}: the end is missing"
TOO_MUCH_DATA = f"{DAMAGED}: it holds more data than a picture of its size"

Size = tuple[int, int]  # width and height in pixels


# Limits on the segments, blocks or chunks before the pixels, and on the bytes of Exif
# data, which no camera reaches: a file of a few megabytes can have millions.
MOST_STEPS = 1000
MOST_EXIF = 2**16


class Header(NamedTuple):
    """The header of a JPEG, PNG, GIF, BMP or WebP file."""

    format: str
    size: Size  # of the upright picture
    fault: str | None = None
    orientation: int = 1


def read_header(file: BinaryIO, length: int) -> Header | None:
    """Reads the header of a file of `length` bytes; `None` for any other format."""
    start = file.read(12)
    for name, (magic, read) in _READERS.items():
        if start.startswith(magic) and (name != "WebP" or start[8:] == b"WEBP"):
            try:
                size, orientation, fault = read(file, length)
            except (struct.error, EOFError):  # read beyond the end
                size, orientation, fault = (0, 0), 1, CUT_SHORT
            if fault is None and min(size) < 1:
                fault = DAMAGED
            return Header(name, upright(size, orientation), fault, orientation)
    return None


def inflation_fault(contents: bytes) -> str | None:
    """Returns the fault of a PNG whose data inflate to far more than its size takes.

    A decoder would inflate all of them: for 10 seconds if a file has 4 MB.
    """
    file = io.BytesIO(contents)
    try:
        head = _take(file, 33)
        if not head.startswith(_PNG):
            return None
        allowed, parts = _inflated_bytes(head) + _FREE_BYTES, []
        for name, size in _png_chunks(file):
            if name == b"IDAT":
                parts.append(_take(file, size))
    except EOFError:
        return CUT_SHORT
    if sum(map(len, parts)) * _MOST_INFLATION < allowed:
        return None
    inflater = zlib.decompressobj()
    for part in parts:
        while part and not inflater.eof:
            try:
                allowed -= len(inflater.decompress(part, 2**20))
            except zlib.error:
                return None  # the decoder will report it
            if allowed < 0:
                return TOO_MUCH_DATA
            part = inflater.unconsumed_tail
    return None


_MOST_INFLATION = 1032  # the largest factor that deflate can reach
_FREE_BYTES = 2**26  # always allowed, since they are inflated in a moment


def orientation_of(exif: bytes) -> int:
    """The orientation 1 to 8 that an Exif block (TIFF) states; 1 if it states none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is not None:
        with contextlib.suppress(struct.error):
            (start,) = struct.unpack_from(f"{order}I", exif, 4)
            (count,) = struct.unpack_from(f"{order}H", exif, start)
            for entry in range(start + 2, start + 2 + 12 * count, 12):
                tag, kind, number = struct.unpack_from(f"{order}HHI", exif, entry)
                if tag == 0x0112 and number == 1 and kind in (3, 4):
                    code = order + ("H" if kind == 3 else "I")
                    (value,) = struct.unpack_from(code, exif, entry + 8)
                    return value if 1 <= value <= 8 else 1
    return 1


def upright(size: Size, orientation: int) -> Size:
    """The size of a picture after it is turned as an Exif orientation asks."""
    return (size[1], size[0]) if orientation > 4 else size


def _jpeg(file: BinaryIO, length: int) -> tuple[Size, int, str | None]:
    orientation = None
    file.seek(2)
    for _ in range(MOST_STEPS):
        if _take(file, 1) != b"\xff":
            continue  # decoders skip garbage between segments
        code = _take(file, 1)[0]
        if code == 0xFF:
            file.seek(-1, 1)  # it filled a gap
        if code in (0x00, 0x01, 0xFF) or 0xD0 <= code <= 0xD8:
            continue  # these have no length
        if code in (0xD9, 0xDA):
            break  # pixels without a frame header
        (size,) = struct.unpack(">H", _take(file, 2))
        if code in _FRAMES:
            _, height, width = struct.unpack(">BHH", _take(file, 5))
            return (width, height), orientation or 1, None
        if code < 0xE0 and orientation is None:
            orientation = 1  # Exif data precede all tables
        if code == 0xE1 and orientation is None:
            segment = file.read(max(0, size - 2))
            if segment.startswith(b"Exif\0\0"):
                orientation = orientation_of(segment[6:])
        else:
            file.seek(size - 2, 1)
    return (0, 0), 1, DAMAGED


_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def _png(file: BinaryIO, length: int) -> tuple[Size, int, str | None]:
    file.seek(0)
    head = _take(file, 33)
    if head[12:16] != b"IHDR":
        return (0, 0), 1, DAMAGED
    # Data that are stored, not compressed, are little larger than the pixels.
    most = 2 * _inflated_bytes(head) + 2**16
    orientation, data = 1, 0
    for name, size in _png_chunks(file):
        if name == b"eXIf" and not data:
            orientation = orientation_of(file.read(min(size, MOST_EXIF)))
        elif name == b"IDAT":
            data += size
            if length <= most:
                break
    width, height = struct.unpack_from(">II", head, 16)
    fault = TOO_MUCH_DATA if data > most else None
    return (width, height), orientation, fault


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields each chunk's name and size, with the file at its contents."""
    position = file.tell()
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        size, name = struct.unpack(">I4s", _take(file, 8))
        position += size + 12
        yield name, size
        if name == b"IEND":
            return
    raise EOFError


_MOST_CHUNKS = 100_000


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the type of color
# Left and top, and the steps to the next pixel, of each pass of an interlaced PNG.
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def _inflated_bytes(head: bytes) -> int:
    """The size of a PNG's data: a byte and the packed pixels of each row."""
    width, height, bits, color, interlaced = struct.unpack_from(">IIBB2xB", head, 16)
    bits *= _CHANNELS.get(color, 1)
    total = 0
    for left, top, right, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // right), -((top - height) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _gif(file: BinaryIO, length: int) -> tuple[Size, int, str | None]:
    file.seek(6)
    width, height, packed = struct.unpack("<HHB2x", _take(file, 7))
    if packed & 0x80:
        file.seek(3 << (packed & 7) + 1, 1)
    for _ in range(MOST_STEPS):
        if (kind := _take(file, 1)) != b"!":
            break
        file.seek(1, 1)
        for _ in range(MOST_STEPS):
            if not (size := _take(file, 1)[0]):
                break
            file.seek(size, 1)
    if kind != b",":
        return (0, 0), 1, DAMAGED
    left, top, columns, rows = struct.unpack("<4H", _take(file, 8))
    if not (columns and rows):
        return (0, 0), 1, DAMAGED
    return (max(width, left + columns), max(height, top + rows)), 1, None


def _bmp(file: BinaryIO, length: int) -> tuple[Size, int, str | None]:
    file.seek(10)
    offset, header = struct.unpack("<II", _take(file, 8))
    if header == 12:
        width, height, bits = struct.unpack("<HH2xH", _take(file, 8))
        compression = 0
    elif header in (40, 52, 56, 64, 108, 124):
        width, height, bits, compression = struct.unpack("<ii2xHI", _take(file, 16))
    else:
        return (0, 0), 1, f"{DAMAGED}: it has an unknown kind of BMP header"
    size = width, abs(height)
    if bits <= 8 and offset <= 14 + header:
        return size, 1, f"{DAMAGED}: it has no palette"
    masked = compression in (3, 6) and bits in (16, 32) and header != 64
    if not masked and (compression or bits not in (1, 4, 8, 16, 24, 32)):
        return size, 1, "it is a compressed BMP; only uncompressed ones can be read"
    end = offset + (width * bits + 31) // 32 * 4 * abs(height)
    return size, 1, CUT_SHORT if end > length else None


def _webp(file: BinaryIO, length: int) -> tuple[Size, int, str | None]:
    file.seek(4)
    (end,) = struct.unpack("<I", _take(file, 4))
    if end + 8 > length:
        return (0, 0), 1, CUT_SHORT
    position, flags, orientation = 12, 0, 1
    canvas = corner = (0, 0)
    size: Size | None = None
    for _ in range(MOST_STEPS):
        if position >= end or (size is not None and not flags & _HAS_EXIF):
            break
        file.seek(position)
        name, chunk = struct.unpack("<4sI", _take(file, 8))
        position += 8 + chunk + chunk % 2
        if name == b"VP8X":
            extended = _take(file, 10)
            flags = extended[0]
            canvas = 1 + _little(extended[4:7]), 1 + _little(extended[7:])
        elif name == b"ANMF" and size is None:  # it contains the chunks of a frame
            position = file.tell() + 16
            corner = 2 * _little(_take(file, 3)), 2 * _little(_take(file, 3))
        elif name == b"VP8 " and size is None:
            width, height = struct.unpack("<6x2H", _take(file, 10))
            size = width & 0x3FFF, height & 0x3FFF
        elif name == b"VP8L" and size is None:
            (bits,) = struct.unpack("<xI", _take(file, 5))
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif name == b"EXIF":
            exif = file.read(min(chunk, MOST_EXIF)).removeprefix(b"Exif\0\0")
            orientation, flags = orientation_of(exif), 0
    if size is None:
        return (0, 0), 1, DAMAGED
    whole = max(canvas[0], corner[0] + size[0]), max(canvas[1], corner[1] + size[1])
    return whole, orientation, None


_HAS_EXIF = 8  # a flag of the chunk VP8X


def _little(contents: bytes) -> int:
    return int.from_bytes(contents, "little")


def _take(file: BinaryIO, count: int) -> bytes:
    contents = file.read(count)
    if len(contents) < count:
        raise EOFError
    return contents


_PNG = b"\x89PNG\r\n\x1a\n"
_READERS: dict[str, tuple[bytes, Callable]] = {
    "JPEG": (b"\xff\xd8\xff", _jpeg),
    "PNG": (_PNG, _png),
    "GIF": (b"GIF8", _gif),
    "BMP": (b"BM", _bmp),
    "WebP": (b"RIFF", _webp),
}

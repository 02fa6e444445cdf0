"""A table of odd picture files: every way of reading gives the same pixels, or none."""

import functools
import io
import struct
import warnings
import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_inception import data, export
from keras_inception.data import decoding, headers, pictures
from keras_inception.server.limits import ServingError
from keras_inception.server.pictures import check_picture
from keras_inception.server.servable import Servable

SIDE, SCALE = 8, 1 / 2550
BLOCKS = np.random.default_rng(3).integers(0, 256, (6, 10, 3)).astype("uint8")
PIXELS = np.kron(BLOCKS, np.ones((8, 8, 1), "uint8"))[:45, :77]
PICTURE = Image.fromarray(PIXELS)
ALPHA = PICTURE.convert("RGBA")
ALPHA.putalpha(Image.fromarray(PIXELS[..., 0] // 2))
FLOATS = Image.fromarray(np.eye(9, dtype="float32"))
DEEP = PIXELS.astype("uint16") * 256 + 200


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


# --- JPEG and Exif


def tiff(value, order="<", kind=3, count=1, before=1, start=8):
    """An Exif block: so many other tags, then an orientation."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    block = magic + struct.pack(f"{order}I", start) + bytes(start - 8)
    block += struct.pack(f"{order}H", before + 1)
    block += before * struct.pack(f"{order}HHII", 0x0100, 4, 1, 0x01120003)
    stored = struct.pack(f"{order}HH", value, 0)
    if kind == 4:
        stored = struct.pack(f"{order}I", value)
    block += struct.pack(f"{order}HHI", 0x0112, kind, count) + stored
    return block + bytes(4)


def exif(*arguments, **options):
    return b"Exif\0\0" + tiff(*arguments, **options)


def segment(marker, contents):
    return bytes([0xFF, marker]) + struct.pack(">H", len(contents) + 2) + contents


JPEG = saved(PICTURE, "JPEG", quality=95, subsampling=0)
AFTER_JFIF = 20


def jpeg(*segments, first=False):
    """A JPEG with further segments, behind or in front of JFIF's."""
    at = 2 if first else AFTER_JFIF
    return JPEG[:at] + b"".join(segments) + JPEG[at:]


def turned(value):
    return jpeg(segment(0xE1, exif(value, "<>"[value % 2])))


THUMBNAIL = JPEG[:2] + segment(0xE1, exif(8)) + JPEG[2:]


# --- PNG


def chunk(name, contents):
    code = struct.pack(">I", zlib.crc32(name + contents))
    return struct.pack(">I", len(contents)) + name + contents + code


def png(
    rows, bits=8, color=2, before=(), after=(), size=None, interlaced=0, compressed=None
):
    """A PNG of rows of bytes."""
    width, height = size or (77, 45)
    if compressed is None:
        compressed = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    chunks = [chunk(b"IHDR", head), *before, chunk(b"IDAT", compressed), *after]
    return headers._PNG + b"".join(chunks) + chunk(b"IEND", b"")


def packed(indices, bits):
    """Rows of indices, packed as PNG and BMP do."""
    rows = []
    for row in indices:
        text = "".join(format(index, f"0{bits}b") for index in row)
        text += "0" * (-len(text) % 8)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return rows


def interlaced():
    rows = []
    for left, top, right, down in headers._PASSES:
        rows += [row.tobytes() for row in PIXELS[top::down, left::right]]
    return png(rows, interlaced=1)


def palette_png(bits, **options):
    indices = PIXELS[..., 0] >> (8 - bits)
    colors = PIXELS.reshape(-1, 3)[:: 3400 // 2**bits][: 2**bits].tobytes()
    return png(packed(indices, bits), bits, 3, [chunk(b"PLTE", colors)], **options)


NOISE = np.random.default_rng(0).bytes(2_000_000)
PROFILE = chunk(b"iCCP", b"x\0\0" + zlib.compress(NOISE))
TEXT = chunk(b"zTXt", b"x\0\0" + zlib.compress(NOISE))


@functools.cache
def zeros_inflating_to(megabytes):
    writer = zlib.compressobj(9)
    parts = [writer.compress(bytes(2**20)) for _ in range(megabytes)]
    return b"".join(parts) + writer.flush()


# --- GIF


def gif(canvas=(77, 45), corner=(0, 0), frame=(77, 45), **options):
    """A GIF whose frame of 77x45 pixels is put on a canvas."""
    contents = bytearray(saved(PICTURE.quantize(16), "GIF", **options))
    contents[6:10] = struct.pack("<HH", *canvas)
    at = contents.index(b"," + bytes(4)) + 1
    contents[at : at + 8] = struct.pack("<4H", *corner, *frame)
    return bytes(contents)


def animated(kind, **options):
    rest = [PICTURE.transpose(Image.Transpose.ROTATE_180)]
    return saved(PICTURE, kind, save_all=True, append_images=rest, **options)


# --- BMP


def bmp(
    rows, bits, *, palette=b"", header=40, compression=0, masks=(), height=45, gap=0
):
    """An uncompressed BMP of rows of bytes, the lowest row first."""
    body = b"".join(bytes(row) + bytes(-len(row) % 4) for row in rows)
    if header == 12:
        about = struct.pack("<IHHHH", 12, 77, height, 1, bits)
    else:
        about = struct.pack("<IiiHHI", header, 77, height, 1, bits, compression)
        about += struct.pack("<IiiII", len(body), 0, 0, 0, 0)
        about += struct.pack(f"<{len(masks)}I", *masks)
        about += bytes(max(0, header - len(about)))
    offset = 14 + len(about) + len(palette) + gap
    start = struct.pack("<2sIII", b"BM", offset + len(body), 0, offset)
    return start + about + palette + bytes(gap) + body


def masked(bits, masks, written=None, **options):
    """A BMP of 16 or 32 bits, whose colors masks select."""
    values = np.zeros(PIXELS.shape[:2], "uint64")
    for channel, mask in enumerate(masks[:3]):
        low = mask & -mask
        level = PIXELS[..., channel].astype("uint64") * (mask // low) // 255
        values |= level * low
    rows = values.astype("<u2" if bits == 16 else "<u4")[::-1]
    return bmp(
        [row.tobytes() for row in rows],
        bits,
        masks=masks if written is None else written,
        **options,
    )


BGR = [row[:, ::-1].tobytes() for row in PIXELS[::-1]]
BGRA = [row[:, [2, 1, 0, 0]].tobytes() for row in PIXELS[::-1]]
RGB565, RGB555 = (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)
XBGR = (0xFF000000, 0xFF0000, 0xFF00)


def palette_bmp(bits, entry=4, **options):
    indices = (PIXELS[::-1, :, 0] >> (8 - bits)).tolist()
    colors = PIXELS.reshape(-1, 3)[:: 3400 // 2**bits][: 2**bits]
    colors = np.pad(colors, ((0, 2**bits - len(colors)), (0, entry - 3)))
    return bmp(packed(indices, bits), bits, palette=colors.tobytes(), **options)


def smaller_animation():
    """An animated WebP whose first frame is smaller than its canvas."""
    contents = animated("WEBP", lossless=True)
    at = contents.index(b"ANMF") + 8
    canvas = struct.pack("<I", 99)[:3] + struct.pack("<I", 59)[:3]
    contents = contents.replace(contents[24:30], canvas, 1)
    corner = struct.pack("<I", 5)[:3] + struct.pack("<I", 3)[:3]
    return contents[:at] + corner + contents[at + 6 :]


EXIF_6 = tiff(6)

# Readable files by name: contents, and how far from Pillow's pixels they may be. The
# IDCT of TensorFlow's choice is the fast one.
JPEG_FILES = {
    "rgb.jpg": JPEG,
    "gray.jpg": saved(PICTURE.convert("L"), "JPEG", quality=95),
    "cmyk.jpg": saved(PICTURE.convert("CMYK"), "JPEG", quality=95),
    "progressive.jfif": saved(
        PICTURE, "JPEG", quality=95, subsampling=0, progressive=True
    ),
    "mpo.jpe": saved(
        PICTURE,
        "MPO",
        save_all=True,
        append_images=[PICTURE],
        quality=95,
        subsampling=0,
    ),
    **{f"turned_{value}.jpg": turned(value) for value in range(1, 9)},
    "exif_first.jpg": jpeg(segment(0xE1, exif(6)), first=True),
    "exif_late.jpg": jpeg(
        segment(0xFE, b"words"),
        *5 * [segment(0xE2, bytes(65000))],
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        segment(0xE1, exif(6, ">")),
    ),
    "gap.jpg": jpeg(b"\xff\xff", segment(0xE1, exif(6))),
    "thumbnail.jpg": jpeg(segment(0xE1, exif(6)[:-4] + bytes(4) + THUMBNAIL)),
    "thumbnail_alone.jpg": jpeg(segment(0xE2, THUMBNAIL)),
    "long.jpg": jpeg(segment(0xE1, exif(6, ">", kind=4))),
    "two_exif.jpg": jpeg(segment(0xE1, exif(6)), segment(0xE1, exif(3))),
    "exif_0.jpg": jpeg(segment(0xE1, exif(0))),
    "exif_9.jpg": jpeg(segment(0xE1, exif(9))),
    "exif_far.jpg": jpeg(segment(0xE1, exif(6, start=3000, before=40))),
    "exif_cut.jpg": jpeg(segment(0xE1, exif(6)[:20])),
    "exif_nowhere.jpg": jpeg(segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff\1\0")),
    "exif_short.jpg": jpeg(segment(0xE1, b"Exif\0\0MM\0*")),
    "tail.jpg": JPEG + b"\0" * 70_000,
}
OTHER_FILES = {
    "rgb.png": saved(PICTURE, "PNG"),
    "gray.png": saved(PICTURE.convert("L"), "PNG"),
    "gray_alpha.png": saved(ALPHA.convert("LA"), "PNG"),
    "alpha.png": saved(ALPHA, "PNG"),
    "bits_1.png": saved(PICTURE.convert("1"), "PNG"),
    "palette_1.png": palette_png(1),
    "palette_2.png": palette_png(2),
    "palette_4.png": palette_png(4),
    "palette_8.png": palette_png(8),
    "palette_alpha.png": saved(PICTURE.quantize(16), "PNG", transparency=3),
    "one_transparent_color.png": saved(PICTURE, "PNG", transparency=(1, 2, 3)),
    "gray_16.png": saved(Image.fromarray(DEEP[..., 0]), "PNG"),
    "rgb_16.png": png([row.astype(">u2").tobytes() for row in DEEP], 16),
    "interlaced.png": interlaced(),
    "profile.png": png(PIXELS, before=[PROFILE]),
    "text.png": png(PIXELS, before=[TEXT], after=[TEXT]),
    "turned.png": png(PIXELS, before=[chunk(b"eXIf", EXIF_6)]),
    "animated.apng": animated("PNG"),
    "really_png.jpg": saved(PICTURE, "PNG"),
    "plain.gif": gif(),
    "interlaced.gif": gif(interlace=1),
    "not_interlaced.gif": gif(interlace=0),
    "canvas.gif": gif((99, 70), (9, 4)),
    "canvas_transparent.gif": gif((99, 70), (9, 4), transparency=3),
    "transparent.gif": gif(transparency=3, comment=b"words" * 200),
    "beyond_its_canvas.gif": gif((50, 20), (9, 4)),
    "no_canvas.gif": gif((0, 0)),
    "animated.gif": animated("GIF"),
    "palette_1.bmp": palette_bmp(1),
    "palette_4.bmp": palette_bmp(4),
    "palette_8.bmp": palette_bmp(8),
    "palette_8_gap.bmp": palette_bmp(8, header=124, gap=10),
    "palette_os2.bmp": palette_bmp(4, entry=3, header=12),
    "gray.bmp": saved(PICTURE.convert("L"), "BMP"),
    "bits_1.bmp": saved(PICTURE.convert("1"), "BMP"),
    "rgb_16.bmp": masked(16, RGB555, written=()),
    "rgb_555.bmp": masked(16, RGB555, compression=3),
    "rgb_565.bmp": masked(16, RGB565, compression=3),
    "rgb_24.bmp": bmp(BGR, 24),
    "rgb_24_os2.bmp": bmp(BGR, 24, header=12),
    "rgb_24_os2_v2.bmp": bmp(BGR, 24, header=64),
    "top_down.bmp": bmp(BGR[::-1], 24, height=-45),
    "rgb_32.bmp": bmp(BGRA, 32),
    "xbgr.bmp": masked(32, XBGR, compression=3),
    "masks_v5.bmp": masked(32, (*XBGR, 0xFF), compression=3, header=124),
    "tail.bmp": bmp(BGR, 24) + b"tail",
    "lossy.webp": saved(PICTURE, "WEBP", quality=90),
    "lossless.webp": saved(PICTURE, "WEBP", lossless=True),
    "alpha.webp": saved(ALPHA, "WEBP", lossless=True, exact=True),
    "lossy_alpha.webp": saved(ALPHA, "WEBP", quality=90, exact=True),
    "turned.webp": saved(
        PICTURE, "WEBP", lossless=True, exif=exif(6), icc_profile=NOISE[:99]
    ),
    "animated.webp": animated("WEBP", quality=90),
    "animated_lossless.webp": animated("WEBP", lossless=True, exif=EXIF_6),
    "animated_smaller.webp": smaller_animation(),
}
# Pillow decodes these, so that TensorFlow alone refuses them.
PILLOW_FILES = {
    "rgb.tif": saved(PICTURE, "TIFF"),
    "packed.tiff": saved(PICTURE, "TIFF", compression="tiff_lzw"),
    "alpha.tif": saved(ALPHA, "TIFF"),
    "cmyk.tif": saved(PICTURE.convert("CMYK"), "TIFF"),
    "gray_16.tif": saved(Image.fromarray(DEEP[..., 0]), "TIFF"),
    "turned.tif": saved(PICTURE, "TIFF", tiffinfo={0x0112: 6}),
    "pages.tif": animated("TIFF"),
    "lossy.avif": saved(PICTURE, "AVIF"),
    "rgb.jp2": saved(PICTURE, "JPEG2000"),
    "gray_16.jp2": saved(Image.fromarray(DEEP[..., 0]), "JPEG2000"),
    "rgb.ppm": saved(PICTURE, "PPM"),
    "gray_16.pgm": saved(Image.fromarray(DEEP[..., 0]), "PPM"),
    "icon.ico": saved(PICTURE.crop((0, 0, 32, 32)), "ICO", sizes=[(32, 32)]),
    "rgb.tga": saved(PICTURE, "TGA"),
}
BAD_FILES = {
    "empty.jpg": (b"", "it is empty"),
    "words.png": (b"words " * 20, "not a picture"),
    "jxl.jxl": (b"\xff\x0a" + bytes(50), "not a picture"),
    "cut.jpg": (JPEG[:-300], "the end is missing"),
    "cut.png": (OTHER_FILES["rgb.png"][:-100], "the end is missing"),
    "head_alone.png": (OTHER_FILES["rgb.png"][:30], "the end is missing"),
    "cut.gif": (gif()[:-100], "damaged"),
    "no_colors.gif": (b"GIF89a\4\0\4\0\0\0\0,\0\0\0\0\4\0\4\0\0\2\2\4\5\0;", "damaged"),
    "no_frame.gif": (gif()[:13] + b";" * 900, "damaged"),
    "cut.bmp": (bmp(BGR, 24)[:-100], "the end is missing"),
    "packed.bmp": (
        bmp([b"\5\0" * 40 + b"\0\1"] * 45, 8, palette=bytes(1024), compression=1),
        "compressed BMP",
    ),
    "bits_2.bmp": (bmp([bytes(20)] * 45, 2, palette=bytes(16)), "compressed BMP"),
    "no_palette.bmp": (bmp([bytes(77)] * 45, 8), "damaged"),
    "unknown.bmp": (b"BM" + bytes(200), "damaged"),
    "cut.webp": (OTHER_FILES["lossy.webp"][:-20], "the end is missing"),
    "cut_animation.webp": (OTHER_FILES["animated.webp"][:-20], "the end is missing"),
    "floats.tif": (saved(FLOATS, "TIFF"), "16 bits"),
    "cut.tif": (PILLOW_FILES["rgb.tif"][:-4000], "damaged"),
    "inflates.png": (
        png((), size=(4, 4), compressed=zeros_inflating_to(200)),
        "more data than",
    ),
    "lies.png": (png((), size=(60000, 60000), compressed=b""), "limit of 100,000,000"),
    "lies.gif": (gif(frame=(20000, 20000)), "limit of 100,000,000"),
}
# It has no limits of its own, and reads a first frame that is complete.
READ_BY_TF_SERVING = ("inflates.png", "lies.gif", "cut.webp", "cut_animation.webp")
GOOD_FILES = JPEG_FILES | OTHER_FILES | PILLOW_FILES


def expected(contents):
    """A file's pixels by Pillow: 16 bits cut to 8, alpha dropped, upright."""
    if contents in (OTHER_FILES["profile.png"], OTHER_FILES["text.png"]):
        return PIXELS  # Pillow refuses chunks of 2 MB
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged Exif data
        with Image.open(io.BytesIO(contents)) as opened:
            picture = ImageOps.exif_transpose(opened)
            pixels = np.asarray(picture)
            if pixels.dtype.itemsize > 1:
                return np.repeat((pixels >> 8).astype("uint8")[..., None], 3, -1)
            return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All files of the tables, in a folder of two classes that are the same."""
    root = tmp_path_factory.mktemp("odd")
    contents = GOOD_FILES | {name: file for name, (file, _) in BAD_FILES.items()}
    for name in ("a", "b"):
        (root / name).mkdir()
        for file in contents:
            (root / name / file).write_bytes(contents[file])
    return root


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """An export whose classes are the pixels that it sees; see `scores_of`."""
    images = keras.Input((SIDE, SIDE, 3))
    scaled = keras.layers.Flatten()(keras.layers.Rescaling(SCALE)(images))
    main = keras.layers.Softmax(name="main")(scaled)
    return export.export_saved_model(
        keras.Model(images, main), tmp_path_factory.mktemp("export") / "pixels"
    )


@pytest.fixture(scope="module")
def ways(version):
    """Ways from a file's path and contents to the scores of its pixels."""
    loaded = tf.saved_model.load(version)
    classify = export.load_classifier(version)
    servable = Servable(version, None, pictures.MAX_PIXELS)

    def sorted_by_class(classes, scores):
        order = np.argsort([int(name) for name in classes])
        return np.array(scores)[order]

    def signature(path, contents):
        answer = loaded.signatures["serving_bytes"](image_bytes=tf.constant([contents]))
        return sorted_by_class(answer["classes"][0].numpy(), answer["scores"][0])

    def example(contents):
        example = tf.train.Example()
        example.features.feature["image_bytes"].bytes_list.value.append(contents)
        return np.array([example.SerializeToString()], object)

    def server(path, contents):
        inputs = {"image_bytes": np.array([contents], object)}
        answer = servable.predict("serving_bytes", inputs)
        other = servable.predict("classify", {"inputs": example(contents)})
        np.testing.assert_array_equal(answer["scores"], other["scores"])
        return sorted_by_class(answer["classes"][0], answer["scores"][0])

    return {
        "load_picture": lambda path, contents: scores_of(data.load_picture(path, SIDE)),
        "signature": signature,
        "load_classifier": lambda path, contents: sorted_by_class(
            *zip(*classify(path), strict=True)
        ),
        "server": server,
    }


def scores_of(pixels):
    """The answer of `version` for pixels."""
    powers = np.exp(pixels.ravel().astype("float64") * SCALE)
    return powers / powers.sum()


@pytest.fixture(scope="module")
def found(files):
    return data.find(files, max_bad_fraction=1.0, validation_share=0.5)


@pytest.fixture(scope="module")
def whole(found):
    """Each picture of the folder as its pipeline reads it, by name."""
    seen = {}
    for split in (found.train, found.validation):
        for pixels, _, path in data.whole_pictures(found, split):
            seen[path.rsplit("/", 1)[-1]] = pixels
    return seen


@pytest.mark.parametrize("name", GOOD_FILES)
def test_a_readable_file_has_the_same_pixels_everywhere(name, files, whole, ways):
    contents, path = GOOD_FILES[name], files / "a" / name
    pixels, reference = whole[name], expected(contents)
    assert pixels.shape == reference.shape
    lossy = name in JPEG_FILES
    difference = np.abs(pixels.astype(int) - reference).max()
    assert difference <= (4 if lossy else 0)
    examined = pictures.examine(path)
    assert examined.size == pixels.shape[1::-1]
    assert examined.native == (name not in PILLOW_FILES)
    assert examined.format is not None
    resized = decoding.fit_square(tf.constant(pixels), SIDE).numpy()
    np.testing.assert_array_equal(data.load_picture(path, SIDE), resized)
    for way, read in ways.items():
        if name in PILLOW_FILES and way == "signature":
            with pytest.raises(tf.errors.InvalidArgumentError):
                read(path, contents)
        else:
            # a level of 255 in one pixel is 20 times as much
            scores = read(path, contents)
            np.testing.assert_allclose(scores, scores_of(resized), 2e-5, err_msg=way)


@pytest.mark.parametrize("name", BAD_FILES)
def test_any_other_file_is_refused_everywhere(name, files, found, whole, ways):
    (contents, fault), path = BAD_FILES[name], files / "a" / name
    assert name not in whole
    (reported,) = (x for x in found.bad.report() if x["file"] == str(path))
    assert fault in reported["fault"]
    for way, read in ways.items():
        if way == "signature" and name in READ_BY_TF_SERVING:
            continue
        with pytest.raises((ValueError, ServingError, tf.errors.InvalidArgumentError)):
            read(path, contents)


def test_fit_square_takes_the_center():
    picture = np.zeros((30, 90, 3), "uint8")
    picture[:, 30:60] = 255
    np.testing.assert_allclose(decoding.fit_square(picture, 15), 255, rtol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(100, 80), (501, 375), (1601, 1203)])
def test_a_window_of_a_jpeg_equals_that_part_of_the_whole(size, orientation):
    row, column = np.mgrid[: size[1], : size[0]]
    smooth = np.stack([row * 255 / size[1], column * 255 / size[0], row * 0 + 90], -1)
    contents = saved(
        Image.fromarray(smooth.astype("uint8")),
        "JPEG",
        quality=95,
        exif=exif(orientation, ">"),
    )
    width, height = size if orientation < 5 else size[::-1]
    part = (height // 10, width // 5, height // 2, width // 2)
    shapes = []

    def window(shape):
        shapes.append(shape.numpy().tolist())
        return tf.constant(part)

    alone = decoding.decode_window(tf.constant(contents), window, 32)
    whole = decoding.crop(decoding.decode(tf.constant(contents)), window)
    assert shapes == [[height, width, 3]] * 2
    # decoded at a fraction of its size, but never below the requested one
    assert min(alone.shape[:2]) >= min(32, min(part[2:]))
    assert alone.shape[0] < 2 * 2 * 32 or alone.shape[0] == part[2] // 8
    resized = [
        tf.image.resize(tf.cast(x, tf.float32), (32, 32), "area")
        for x in (alone, whole)
    ]
    np.testing.assert_allclose(*resized, atol=5)


def test_a_window_of_any_other_file_is_upright():
    window = lambda shape: tf.constant([40, 20, 10, 20])  # noqa: E731
    for name in ("turned.png", "turned.webp"):
        part = decoding.decode_window(tf.constant(OTHER_FILES[name]), window, 4)
        whole = expected(OTHER_FILES[name])
        np.testing.assert_array_equal(part, whole[40:50, 20:40])


def test_bytes_for_an_export_are_those_of_the_file_or_a_png():
    for name in ("rgb.jpg", "alpha.webp", "canvas.gif"):
        assert pictures.as_decodable_bytes(GOOD_FILES[name]) == GOOD_FILES[name]
    for name, (contents, _) in BAD_FILES.items():
        if not name.startswith(("cut", "no_")):  # found by decoding
            with pytest.raises(ValueError, match="it"):
                pictures.as_decodable_bytes(contents)


@pytest.mark.parametrize(
    ("contents", "status", "message"),
    [
        (gif(frame=(6000, 6000)), 413, "36,000,000 pixels; at most 25,000,000"),
        (gif(canvas=(6000, 6000)), 413, "36,000,000 pixels"),
        (bmp(BGR, 24, height=-2_000_000), 413, "154,000,000 pixels"),
        (png((), size=(6000, 6000)), 413, "36,000,000 pixels"),
        (
            png((), size=(3000, 3000), compressed=zeros_inflating_to(200)),
            400,
            "more data than",
        ),
        (saved(Image.new("1", (6000, 6000)), "TIFF"), 413, "36,000,000 pixels"),
        (OTHER_FILES["lossy.webp"].replace(b"VP8 ", b"VP8?"), 400, "damaged"),
        (JPEG[:2] + segment(0xFE, b"") * 2000 + JPEG[2:], 400, "damaged"),
        (gif()[:13] + b"!\xfe\0" * 2000 + gif()[13:], 400, "damaged"),
        (b"words", 400, "is not a picture"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_server_checks_what_would_be_decoded(contents, status, message):
    with pytest.raises(ServingError, match=message) as caught:
        check_picture(contents, 25_000_000)
    assert caught.value.status == status


def test_the_suffixes_of_pictures_are_in_lower_case():
    assert {".jpg", ".jpe", ".jfif", ".webp", ".tif", ".avif"} <= {*pictures.SUFFIXES}
    assert all(suffix == suffix.lower() for suffix in pictures.SUFFIXES)

"""What is decompressed is never larger than it may be, whatever it was compressed by."""

import bz2
import io
import lzma
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import brotli
import pytest
from celery import Celery
from kombu import Message, compression

from pico_celery_core.errors import MessageTooLargeError, SettingsError
from pico_celery_core.message_size import LimitedDecoder, check_size, limit_decompression, max_message_size

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from backports import zstd

LIMIT = 1_000_000
SMALL = b'["a message"]' * 10
BOMB = 100 * LIMIT


def streamed(compressor: Any, size: int) -> bytes:
    """Compress so many zeros, without saying how many."""
    compress = getattr(compressor, "compress", None) or compressor.process
    finish = getattr(compressor, "flush", None) or compressor.finish
    out = io.BytesIO()
    for _ in range(size // LIMIT):
        out.write(compress(b"0" * LIMIT))
    out.write(finish())
    return out.getvalue()


def zstd_of(window: int) -> Any:
    return zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window})


CODECS: dict[str, tuple[Callable[[bytes], bytes], Any, Callable[[], Any]]] = {
    "zlib": (zlib.decompress, zlib.compress, lambda: zlib.compressobj(9)),
    "bz2": (bz2.decompress, bz2.compress, bz2.BZ2Compressor),
    "lzma": (lzma.decompress, lzma.compress, lzma.LZMACompressor),
    "lzma, at its best": (lzma.decompress, lzma.compress, lambda: lzma.LZMACompressor(preset=9)),
    "lzma, of old": (lzma.decompress, lzma.compress, lambda: lzma.LZMACompressor(format=lzma.FORMAT_ALONE)),
    "zstd": (zstd.decompress, zstd.compress, zstd.ZstdCompressor),
    "zstd, with a large window": (zstd.decompress, zstd.compress, lambda: zstd_of(30)),
    "brotli": (brotli.decompress, brotli.compress, lambda: brotli.Compressor(quality=1)),
}


DAMAGED = (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError, brotli.error)


@pytest.fixture
def decoders() -> Iterator[None]:
    """Begin with kombu's decoders, and end with them: a worker's step in this process may have limited them."""
    limit_decompression(0)
    yield
    limit_decompression(0)


@pytest.mark.parametrize(("decoder", "compress", "_compressor"), CODECS.values(), ids=CODECS)
def test_what_is_small_enough_is_decompressed(decoder, compress, _compressor):
    assert LimitedDecoder(decoder, LIMIT)(compress(SMALL)) == SMALL
    assert LimitedDecoder(decoder, len(SMALL))(compress(SMALL)) == SMALL
    with pytest.raises(MessageTooLargeError):
        LimitedDecoder(decoder, len(SMALL) - 1)(compress(SMALL))


@pytest.mark.parametrize(("decoder", "_compress", "compressor"), CODECS.values(), ids=CODECS)
def test_what_becomes_too_large_is_refused_and_takes_no_more_memory_than_that(decoder, _compress, compressor):
    bomb = streamed(compressor(), BOMB)
    assert len(bomb) < LIMIT
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooLargeError) as raised:
            LimitedDecoder(decoder, LIMIT)(bomb)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.8 * BOMB, "lzma at its best takes 65 MB for itself"
    assert kept < LIMIT / 2, "the error keeps nothing of it"
    assert (raised.value.limit, raised.value.__cause__, raised.value.__context__) == (LIMIT, None, None)
    assert "pico_max_message_size" in str(raised.value)


def test_zstd_that_says_how_large_it_becomes_is_refused_as_well():
    with pytest.raises(MessageTooLargeError):
        LimitedDecoder(zstd.decompress, LIMIT)(zstd.compress(b"0" * BOMB))


def test_lzma_that_wants_too_much_memory_is_refused():
    old = bytearray(lzma.compress(SMALL, format=lzma.FORMAT_ALONE))
    old[1:5] = (2**31).to_bytes(4, "little")
    with pytest.raises(MessageTooLargeError):
        LimitedDecoder(lzma.decompress, LIMIT)(bytes(old))


def test_a_brotli_that_cannot_limit_what_it_returns_is_fed_little_by_little():
    class Decompressor:
        """As before Brotli 1.2."""

        def __init__(self) -> None:
            self._real = brotli.Decompressor()
            self.is_finished = self._real.is_finished

        def process(self, data: bytes) -> bytes:
            return bytes(self._real.process(data))

    old = ModuleType("brotli")
    vars(old)["Decompressor"] = Decompressor
    decoder = LimitedDecoder(brotli.decompress, LIMIT)
    assert decoder._brotli(old, brotli.compress(SMALL)) == SMALL
    with pytest.raises(MessageTooLargeError):
        decoder._brotli(old, streamed(brotli.Compressor(quality=1), BOMB))


@pytest.mark.parametrize(("decoder", "compress", "_compressor"), CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"junk", lambda data: b""])
def test_what_is_damaged_is_refused_and_not_as_too_large(decoder, compress, _compressor, damage):
    with pytest.raises(DAMAGED) as raised:
        LimitedDecoder(decoder, LIMIT)(damage(compress(SMALL)))
    assert not isinstance(raised.value, MessageTooLargeError)


@pytest.mark.parametrize("name", ["bz2", "lzma", "zstd"])
def test_many_streams_are_refused(name):
    decoder, compress, _ = CODECS[name]
    with pytest.raises(ValueError, match="something follows its end"):
        LimitedDecoder(decoder, LIMIT)(compress(b"") * 1000)


def test_all_decoders_that_kombu_has_are_limited(decoders):
    compressed = {kind: compression.compress(b"0" * 1000, kind)[0] for kind in compression.encoders()}
    originals = {kind: compression.get_decoder(kind) for kind in compressed}
    for limit in (2000, 500):  # the later one holds
        limit_decompression(limit)
    for kind, data in compressed.items():
        with pytest.raises(MessageTooLargeError):
            compression.decompress(data, kind)
    limit_decompression(0)
    assert {kind: compression.get_decoder(kind) for kind in compressed} == originals
    assert compression.get_decoder("gzip") is zlib.decompress, "under its other names too"


def test_a_message_has_the_error_and_not_the_data(decoders):
    limit_decompression(LIMIT)
    message = Message(zlib.compress(b"0" * BOMB), headers={"compression": "application/x-gzip"})
    [(kind, error, _)] = message.errors
    assert (kind, error.limit) == (MessageTooLargeError, LIMIT)


def test_a_decoder_that_nobody_knows_is_asked_and_its_answer_measured():
    decoder = LimitedDecoder(lambda data: data * 2, 10)
    assert decoder(b"12345") == b"1234512345"
    with pytest.raises(MessageTooLargeError):
        decoder(b"123456")


def test_the_setting_is_a_number_of_bytes():
    app = Celery("sizes", set_as_current=False)
    assert max_message_size(app.conf) == 64 * 2**20
    for value, size in ((1000, 1000), ("1000", 1000), (0, 0), (None, 0)):
        assert max_message_size({"pico_max_message_size": value}) == size
    for wrong in ("64 MB", -1, [1], float("inf")):
        with pytest.raises(SettingsError, match="Give a number of bytes, or 0 for no limit"):
            max_message_size({"pico_max_message_size": wrong})


def test_without_a_limit_any_size_will_do():
    check_size(b"12", 2)
    check_size(b"12", 0)
    with pytest.raises(MessageTooLargeError):
        check_size(b"123", 2)

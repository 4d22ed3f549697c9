"""How large a message may be, and become when it is decompressed.

Some kilobytes of bzip2 or Brotli can become gigabytes. kombu decompresses a message when it is delivered, before
anybody has looked at it, by the decoders that are registered with `kombu.compression`. Those put in their place here
stop where a message would become too large.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from kombu import compression

from pico_celery_core.errors import MessageTooLargeError, SettingsError
from pico_celery_core.settings import PICO_OPTIONS

_SETTING: Final = "pico_max_message_size"

# What a decoder may need besides what it returns, in bytes: `xz -9` takes half of it, zstd as much by default.
_LARGEST_WINDOW: Final = 128 * 2**20

# How much goes at a time to a Brotli that cannot limit what it returns, in bytes; each three can become 16 MiB.
_PIECE: Final = 16

# Part of kombu has types, and this has not.
_registry: Any = compression

_Decoder: TypeAlias = Callable[[bytes], bytes]


def max_message_size(settings: Mapping[str, Any]) -> int:
    """Return how large the body of a message may be, in bytes; 0 for any size.

    Args:
        settings: Celery's, by their names.

    Raises:
        SettingsError: If the setting is no number of bytes.
    """
    value = settings.get(_SETTING, PICO_OPTIONS[_SETTING].default)
    try:
        size = int(value or 0)
    except (TypeError, ValueError, OverflowError):
        size = -1
    if size < 0:
        raise SettingsError(_SETTING, f"is {value!r}", "Give a number of bytes, or 0 for no limit.")
    return size


def check_size(body: Any, limit: int) -> None:
    """Check that the body of a message is not larger than it may be.

    Args:
        body: The body.
        limit: How large it may be, in bytes; 0 for any size.

    Raises:
        MessageTooLargeError: If it is.
    """
    if limit and len(body) > limit:
        raise MessageTooLargeError(limit)


def limit_decompression(limit: int) -> None:
    """Have kombu decompress no message of this process to more than this.

    Args:
        limit: How large a message may become, in bytes; 0 for any size.
    """
    for content_type in _registry.encoders():
        encoder, _ = _registry.get_encoder(content_type)
        decoder = _registry.get_decoder(content_type)
        original = decoder.original if isinstance(decoder, LimitedDecoder) else decoder
        _registry.register(encoder, LimitedDecoder(original, limit) if limit else original, content_type)


class LimitedDecoder:
    """Decompresses to a limited size.

    Args:
        original: The decoder that it stands for. One that is not kombu's own decompresses itself, and then the size of
            what it returns is looked at.
        limit: How large what it returns may be, in bytes.

    Example:
        >>> import zlib
        >>> LimitedDecoder(zlib.decompress, limit=10)(zlib.compress(b"0123456789"))
        b'0123456789'
    """

    def __init__(self, original: _Decoder, limit: int) -> None:
        self.original = original
        self._limit = limit
        self._decode = self._decoder_like(original)

    def __call__(self, data: bytes) -> bytes:
        """Decompress.

        Args:
            data: What is compressed.

        Raises:
            MessageTooLargeError: If that becomes larger than it may.
            ValueError: If its end is missing, or is not the data's.
            Exception: What the original raises about what it cannot decompress.
        """
        decoded = b""
        try:
            decoded = self._decode(data)
        except MessageTooLargeError:
            too_large = True
        else:
            too_large = len(decoded) > self._limit
        if too_large:
            # kombu keeps the error, and the error this frame, but not those that have the data.
            del decoded
            raise MessageTooLargeError(self._limit)
        return decoded

    def _decoder_like(self, original: _Decoder) -> _Decoder:
        kinds: dict[str, Callable[[Any, bytes], bytes]] = {
            "zlib": self._zlib,
            "bz2": self._bz2,
            "lzma": self._lzma,
            "zstd": self._zstd,
            "brotli": self._brotli,
            "brotlicffi": self._brotli,
        }
        module = getattr(original, "__module__", "") or ""
        decode = kinds.get(module.rpartition(".")[2].lstrip("_"))
        if decode is None or original.__name__ != "decompress":
            return original
        return functools.partial(decode, importlib.import_module(module))

    def _zlib(self, zlib: Any, data: bytes) -> bytes:
        decompressor = zlib.decompressobj()
        return self._whole(decompressor.decompress(data, self._limit + 1), is_whole=decompressor.eof)

    def _bz2(self, bz2: Any, data: bytes) -> bytes:
        return self._stream(bz2.BZ2Decompressor(), data)

    def _lzma(self, lzma: Any, data: bytes) -> bytes:
        try:
            return self._stream(lzma.LZMADecompressor(memlimit=_LARGEST_WINDOW), data)
        except lzma.LZMAError as error:
            if "Memory usage limit" in str(error):
                raise MessageTooLargeError(self._limit) from error
            raise

    def _zstd(self, zstd: Any, data: bytes) -> bytes:
        window = min(max(_LARGEST_WINDOW, self._limit).bit_length() - 1, 30)
        options = {zstd.DecompressionParameter.window_log_max: window}
        try:
            return self._stream(zstd.ZstdDecompressor(options=options), data)
        except zstd.ZstdError as error:
            if "too much memory" in str(error):
                raise MessageTooLargeError(self._limit) from error
            raise

    def _brotli(self, brotli: Any, data: bytes) -> bytes:
        decompressor = brotli.Decompressor()
        try:
            decoded: bytes = decompressor.process(data, output_buffer_limit=self._limit + 1)
        except TypeError:  # before Brotli 1.2
            decoded = self._in_pieces(decompressor.process, data)
        return self._whole(decoded, is_whole=decompressor.is_finished())

    def _in_pieces(self, process: _Decoder, data: bytes) -> bytes:
        decoded = bytearray()
        for start in range(0, len(data), _PIECE):
            decoded += process(data[start : start + _PIECE])
            check_size(decoded, self._limit)
        return bytes(decoded)

    def _stream(self, decompressor: Any, data: bytes) -> bytes:
        decoded: bytes = decompressor.decompress(data, max_length=self._limit + 1)
        # kombu makes one stream of a message. Many, each of which becomes nothing, would take longer than they should.
        return self._whole(decoded, is_whole=decompressor.eof and not decompressor.unused_data)

    def _whole(self, decoded: bytes, *, is_whole: bool) -> bytes:
        check_size(decoded, self._limit)
        if not is_whole:
            raise ValueError("The compressed body ends too early, or something follows its end")
        return decoded

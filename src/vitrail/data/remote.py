"""Files behind an address such as `s3://…` or `https://…`, by way of fsspec.

Exactly the bytes that are asked for are fetched, and from no other address than the one that the
user named: redirects are refused. fsspec is installed with torch; the package of a protocol, such
as s3fs, is the user's.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import fsspec
from fsspec.registry import known_implementations

from vitrail.errors import DataError, ImageError, did_you_mean

PAUSES = (0.2, 0.8, 3.2)  # seconds before each further try
SECONDS = 60  # without a byte, before a connection counts as broken; ten times that for an answer
AGAIN = {408, 425, 429}  # statuses below 500 that may pass
STAMPS = ("ETag", "etag", "md5Hash", "Last-Modified", "LastModified", "mtime", "updated", "created")

Answer = TypeVar("Answer")


class Found(NamedTuple):
    """A file and which version of it."""

    size: int  # bytes
    stamp: str  # changes whenever the file does; empty where the protocol tells nothing


class _RefusedError(Exception):
    """The server does something that is not followed."""


def is_remote(source: str) -> bool:
    """Whether a string is an address, and not the path of a local file."""
    return "://" in source


def is_http(source: str) -> bool:
    """Whether an address is one of the web, where no folder can be listed."""
    return source.startswith(("http://", "https://"))


def read_range(url: str, start: int, count: int) -> bytes:
    """Give `count` bytes from place `start`; tries again where the failure may pass.

    Raises:
        ImageError: they cannot be read.
    """

    def fetch() -> bytes:
        data = bytes(_filesystem(url).cat_file(url, start=start, end=start + count))
        if len(data) != count:
            raise OSError(f"{len(data)} bytes came where {count} were asked for")
        return data

    try:
        return _patiently(fetch) if count else b""
    except FileNotFoundError:
        raise ImageError(f"{url}: no such file") from None
    except DataError:
        raise
    except Exception as error:  # every protocol has errors of its own
        raise ImageError(f"{url}: cannot be read: {_words(error)}") from None


def shown(source: str) -> str:
    """Name a source without the query of a web address, which may hold a signature."""
    return source.partition("?")[0] if is_http(source) else source


def find(url: str) -> Found | None:
    """Give size and version of a file; None if there is none.

    Raises:
        DataError: the server cannot be asked, or does not tell the size.
    """
    try:
        about = _patiently(lambda: _filesystem(url).info(url))
    except FileNotFoundError:
        return None
    except DataError:
        raise
    except Exception as error:  # every protocol has errors of its own
        if getattr(error, "status", 0) in (403, 404, 410):  # a store may hide what is missing
            return None
        raise DataError(f"{shown(url)}: cannot be read: {_words(error)}") from None
    return _found(url, about)


def search(pattern: str, base: str) -> dict[str, Found]:
    """Give the files that match a pattern with `*`, `?` or `[…]`: their name below `base`.

    Raises:
        DataError: the store cannot be asked.
    """
    found = _list(base, lambda store: list(store.glob(pattern, detail=True).values()))
    return {name: about for name, about in found.items() if about.size >= 0}


def list_folder(url: str) -> dict[str, Found]:
    """Give what lies directly in a folder: its name; folders have size -1.

    Raises:
        DataError: the store cannot be asked.
    """
    return _list(url, lambda store: list(store.ls(url, detail=True)))


def _list(base: str, ask: Callable[[Any], list[dict[str, Any]]]) -> dict[str, Found]:
    try:
        store = _filesystem(base)
        start = store._strip_protocol(base).rstrip("/") + "/"
        entries = {each["name"].rstrip("/"): each for each in _patiently(lambda: ask(store))}
        below = {name: each for name, each in entries.items() if name.startswith(start)}
        return {name.removeprefix(start): _found(base, each) for name, each in below.items()}
    except FileNotFoundError:
        return {}
    except DataError:
        raise
    except Exception as error:  # every protocol has errors of its own
        raise DataError(f"{base}: cannot be listed: {_words(error)}") from None


def _found(url: str, about: dict[str, Any]) -> Found:
    """Read what a protocol tells about a file; a folder has size -1."""
    if about.get("type") == "directory":
        return Found(-1, "")
    size = about.get("size")
    if not isinstance(size, int) or about.get("partial") is False:
        raise DataError(
            f"{url}: the server tells no size, or gives only whole files; samples are read by "
            "their place, so it must serve ranges of bytes"
        )
    stamp = next((str(about[name]) for name in STAMPS if about.get(name)), "")
    return Found(size, stamp)


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask again, after a longer pause each time, while the failure may pass."""
    for pause in (*PAUSES, None):
        try:
            return ask()
        except Exception as error:  # every protocol has errors of its own
            cause = _cause(error)
            if pause is None or not _may_pass(cause):
                raise cause from None
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _cause(error: Exception) -> Exception:
    """Give what is behind the "no such file" that fsspec makes of every failure over HTTP."""
    while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return FileNotFoundError() if getattr(error, "status", 0) == 404 else error


def _may_pass(error: Exception) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int) and 0 < status < 500:
        return status in AGAIN
    refused = (_RefusedError, DataError, ImportError, TypeError, ValueError, NotImplementedError)
    absent = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
    return not isinstance(error, refused + absent)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _filesystem(url: str) -> Any:
    """Give this process's own file system for an address. Raises DataError."""
    protocol = url.partition("://")[0].lower()
    if "::" in url:  # fsspec would unpack, or copy to the disk, on the way
        raise DataError(f"{url}: chained addresses (::) are not read; name the files themselves")
    return _make_filesystem(protocol, os.getpid())


@functools.lru_cache(maxsize=16)
def _make_filesystem(protocol: str, process: int) -> Any:
    """Make a file system; a process that was forked off never uses that of its parent."""
    options = _http_options() if protocol in ("http", "https") else {}
    try:
        return fsspec.filesystem(
            protocol, skip_instance_cache=True, use_listings_cache=False, **options
        )
    except ImportError:
        hint = known_implementations.get(protocol, {}).get("err", "install its package")
        raise _lacking(protocol, hint) from None
    except ValueError:
        near = did_you_mean(protocol, known_implementations)
        raise DataError(f"{protocol}://: no such protocol{near}") from None


def _lacking(protocol: str, hint: str) -> DataError:
    return DataError(f"{protocol}://: this protocol needs a package that is not there: {hint}")


def _http_options() -> dict[str, Any]:
    """Make HTTP strict: no redirects, no unpacking, ranges or nothing."""
    try:
        import aiohttp
    except ImportError:
        raise _lacking("http", known_implementations["http"]["err"]) from None
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_refuse_redirect)
    trace.on_request_end.append(_require_range)
    return {
        "headers": {"Accept-Encoding": "identity"},
        "client_kwargs": {
            "auto_decompress": False,
            "timeout": aiohttp.ClientTimeout(total=10 * SECONDS, sock_read=SECONDS),
            "trace_configs": [trace],
        },
    }


async def _refuse_redirect(session: Any, context: Any, about: Any) -> None:
    about.response.close()
    raise _RefusedError("the server points to another address; name that one")


async def _require_range(session: Any, context: Any, about: Any) -> None:
    """Leave before the body where it is not the range that was asked for."""
    first, _, last = about.headers.get("Range", "").removeprefix("bytes=").partition("-")
    if last and about.response.status < 300:
        size = about.response.content_length
        if about.response.status != 206 or size is None or size > int(last) - int(first) + 1:
            about.response.close()
            raise _RefusedError("the server does not give ranges of bytes")

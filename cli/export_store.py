"""Stores of exports: a folder, or a bucket of an S3-compatible store. A file is complete, or not there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit

from cli.export_files import write_file
from contracts.errors import BadInput, Unavailable

Write = Callable[[BinaryIO], None]
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
CONNECT_S, REQUEST_S, ATTEMPTS = 10, 60, 3


class Store(Protocol):
    """A place of files by name."""

    def has(self, name: str) -> bool:
        """Return True if a file is there."""
        ...

    def put(self, name: str, write: Write) -> None:
        """Store what a function writes to a binary stream. Raises Unavailable."""
        ...


def open_store(address: str, environment: Mapping[str, str]) -> Store:
    """Return the store of an address: a folder, or `s3://BUCKET/PREFIX`. Raises BadInput.

    Credentials of a bucket are those of the environment, and no part of an address.
    """
    parts = urlsplit(address)
    if "://" not in address:
        return Folder(Path(address))
    if "@" in parts.netloc or parts.query:
        names = ", ".join((*_CREDENTIALS, "AWS_REGION", "AWS_ENDPOINT_URL"))
        fix = f"credentials and options come from the environment: {names}"
        raise BadInput("--to", f"{parts.scheme}://...", fix)
    if parts.scheme != "s3" or not parts.netloc:
        raise BadInput("--to", address, "give a folder, or s3://BUCKET/PREFIX")
    return Bucket(parts.netloc, parts.path.strip("/"), environment)


class Folder:
    """A folder, which is made if it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, name: str) -> bool:
        """Return True if a file is there."""
        return (self._path / name).exists()

    def put(self, name: str, write: Write) -> None:
        """Write a file beside its place, and rename it."""
        write_file(self._path / name, write)


class Bucket:
    """A prefix of a bucket. The bucket is never made."""

    def __init__(self, bucket: str, prefix: str, environment: Mapping[str, str]) -> None:
        from pyarrow import fs

        self._root = "/".join(part for part in (bucket, prefix) if part)
        self._secrets = [value for name in _CREDENTIALS if (value := environment.get(name))]
        endpoint = urlsplit(environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or "")
        self._system = fs.S3FileSystem(
            region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
            endpoint_override=endpoint.netloc or None,
            scheme=endpoint.scheme or "https",
            allow_bucket_creation=False,
            connect_timeout=CONNECT_S,
            request_timeout=REQUEST_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )

    def has(self, name: str) -> bool:
        """Return True if an object is there. Raises Unavailable."""
        from pyarrow import fs

        try:
            info = self._system.get_file_info(f"{self._root}/{name}")
        except OSError as error:
            raise self._unavailable(name, error) from None
        return bool(info.type == fs.FileType.File)

    def put(self, name: str, write: Write) -> None:
        """Write a temporary file, and upload it in one call, which stores all of it or nothing. Raises Unavailable.

        A stream that is closed early would store a part: so there is no second call that could be left out.
        """
        import pyarrow as pa

        with tempfile.NamedTemporaryFile(prefix="wattlog-export-") as file:
            write(file)  # type: ignore[arg-type]
            file.flush()
            try:
                with (
                    pa.memory_map(file.name) as content,
                    self._system.open_output_stream(f"{self._root}/{name}") as out,
                ):
                    out.write(content.read_buffer())
            except OSError as error:
                raise self._unavailable(name, error) from None

    def _unavailable(self, name: str, error: OSError) -> Unavailable:
        text = str(error)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return Unavailable(
            f"s3://{self._root}/{name}: {text}",
            "Check the bucket, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL.",
        )

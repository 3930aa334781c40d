"""The one door to obstore: objects that are written once and never changed, in a folder or in S3.

Object lock. A folder has none: its files are made read-only, which stops mishaps and not malice. In S3 the lock is the
bucket's: obstore signs no retention headers of ours, so give the bucket versioning, object lock and a default retention
that is as long as the archive must last. Puts carry the SHA-256 that S3 asks for then. Create-only holds without it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, S3Store

from services.common.errors import Unavailable
from services.common.files import settle

DEADLINE_S = 30.0
RETRIES = 4
RETRIED_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Blobs:
    """Objects by name, such as a/b/c. Each method raises Unavailable STORE_UNAVAILABLE when the store does not do it
    in time."""

    store: LocalStore | S3Store
    folder: Path | None
    """Where the objects are files."""

    async def put(self, name: str, content: bytes) -> bool:
        """Create the object. False when there is one of that name: it stays as it is. Either way it lasts by then."""
        async with in_time():
            try:
                await obstore.put_async(self.store, name, content, mode="create")
            except AlreadyExistsError:
                is_new = False
            else:
                is_new = True
            if self.folder:
                await asyncio.to_thread(make_lasting, self.folder, self.folder / name)
            return is_new

    async def get(self, name: str) -> bytes | None:
        """What it holds; None when there is none."""
        async with in_time():
            try:
                found = await obstore.get_async(self.store, name)
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return None

    async def head(self, name: str) -> int | None:
        """Its size in bytes; None when there is none."""
        async with in_time():
            try:
                return (await obstore.head_async(self.store, name))["size"]
            except FileNotFoundError:
                return None

    async def list(self, prefix: str) -> Mapping[str, int]:
        """Names below a prefix of whole steps, such as a/b, with their sizes."""
        async with in_time():
            pages = obstore.list(self.store, prefix)
            return {found["path"]: found["size"] async for page in pages for found in page}


def open_blobs(url: str) -> Blobs:
    """`file:///folder`, made for us alone when it is not there; `s3://bucket/prefix`, with what obstore reads of the
    environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL and the like.
    ValueError for anything else."""
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        folder = Path(unquote(parts.path))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Blobs(LocalStore(prefix=folder), folder)
    if parts.scheme == "s3" and parts.netloc:
        return Blobs(bucket(parts.netloc, unquote(parts.path).strip("/")), None)
    raise ValueError(f"{url!r} is no archive: give file:///folder or s3://bucket/prefix.")


def bucket(name: str, prefix: str) -> S3Store:
    pause, longest = timedelta(milliseconds=100), timedelta(seconds=4)
    return S3Store(
        name,
        prefix=prefix or None,
        config={"checksum_algorithm": "SHA256", "conditional_put": "etag"},
        client_options={"connect_timeout": "5s", "timeout": "20s", "allow_http": is_near_by()},
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRIED_WITHIN_S),
            "backoff": {"init_backoff": pause, "max_backoff": longest, "base": 2},
        },
    )


def is_near_by() -> bool:
    """Whether the S3 that the environment names is on this machine: nothing else is spoken to without TLS."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Holds to the deadline, and turns the store's absence into Unavailable STORE_UNAVAILABLE."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield
    except (BaseError, OSError) as fault:
        why = str(fault).partition("\n")[0] or "it takes too long"
        raise Unavailable("STORE_UNAVAILABLE", f"The object store fails: {why}.", retry_after_s=1) from fault


def make_lasting(root: Path, file: Path) -> None:
    """Bring a file and its names to the disk, and take its right to be written."""
    file.chmod(0o400)
    for path in (file, *file.parents):
        settle(path)
        if path == root:
            return

"""As much of S3 as the archive needs, over a real socket: objects that are created once, and days on which it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from aiohttp import web

ANY_TIME = "Sun, 01 Nov 2026 00:00:00 GMT"


@dataclass
class FakeS3:
    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    failing: int = 0
    """So many requests more are answered with 500."""
    then_lost: bool = False
    """A put that fails is done all the same."""
    requests: list[tuple[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.method, request.path))
        if self.failing:
            self.failing -= 1
            if self.then_lost and request.method == "PUT":
                self.objects.setdefault(request.path, await request.read())
            return web.Response(status=500, text="<Error><Code>InternalError</Code></Error>")
        if "list-type" in request.query:
            return self.listing(request.path, request.query.get("prefix", ""))
        if request.method == "PUT":
            return await self.put(request)
        if request.path not in self.objects:
            return web.Response(status=404)
        headers = {"ETag": '"1"', "Last-Modified": ANY_TIME}
        return web.Response(body=self.objects[request.path], headers=headers)

    async def put(self, request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == "*" and request.path in self.objects:
            return web.Response(status=412)
        self.objects[request.path] = await request.read()
        return web.Response(headers={"ETag": '"1"'})

    def listing(self, bucket: str, prefix: str) -> web.Response:
        found = {path.removeprefix(f"{bucket}/"): body for path, body in self.objects.items()}
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>1</ETag>"
            "<LastModified>2026-11-01T00:00:00.000Z</LastModified></Contents>"
            for key, body in sorted(found.items())
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        return web.Response(text=text, content_type="application/xml")


@asynccontextmanager
async def open_fake_s3() -> AsyncIterator[FakeS3]:
    fake = FakeS3()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()

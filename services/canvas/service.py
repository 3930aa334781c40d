"""CanvasService over gRPC: takes a request apart, hands it to the deed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from grpc import aio

from services.canvas.layouts import Layouts
from services.canvas.panes import Panes
from services.canvas.versions import Versions
from services.canvas.watching import Watching
from services.canvas.writing import Writing
from services.common.call import caller
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import CanvasEvent, Layout, Pane, PaneVersion
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceServicer

Context = aio.ServicerContext[Any, Any]


class CanvasService(CanvasServiceServicer):
    def __init__(
        self, panes: Panes, versions: Versions, layouts: Layouts, watching: Watching, writing: Writing
    ) -> None:
        self._panes, self._versions, self._layouts = panes, versions, layouts
        self._watching, self._writing = watching, writing

    async def CreatePane(self, request: wire.CreatePaneRequest, context: Context) -> Pane:
        return await self._panes.create(caller(), request)

    async def GetPane(self, request: wire.GetPaneRequest, context: Context) -> Pane:
        return await self._panes.get(caller(), request.name)

    async def ListPanes(self, request: wire.ListPanesRequest, context: Context) -> wire.ListPanesResponse:
        return await self._panes.page(caller(), request)

    async def UpdatePane(self, request: wire.UpdatePaneRequest, context: Context) -> Pane:
        return await self._panes.update(caller(), request)

    async def DeletePane(self, request: wire.DeletePaneRequest, context: Context) -> wire.DeletePaneResponse:
        return await self._panes.delete(caller(), request)

    async def ListPaneVersions(
        self, request: wire.ListPaneVersionsRequest, context: Context
    ) -> wire.ListPaneVersionsResponse:
        return await self._versions.page(caller(), request)

    async def GetPaneVersion(self, request: wire.GetPaneVersionRequest, context: Context) -> PaneVersion:
        return await self._versions.get(caller(), request.name)

    async def RestorePaneVersion(self, request: wire.RestorePaneVersionRequest, context: Context) -> Pane:
        return await self._versions.restore(caller(), request)

    async def GetLayout(self, request: wire.GetLayoutRequest, context: Context) -> Layout:
        return await self._layouts.get(caller(), request.name)

    async def UpdateLayout(self, request: wire.UpdateLayoutRequest, context: Context) -> Layout:
        return await self._layouts.update(caller(), request)

    async def WatchCanvas(self, request: wire.WatchCanvasRequest, context: Context) -> AsyncIterator[CanvasEvent]:
        """The headers go out once it is let in: there may be nothing to say for a while."""
        async with self._watching.watch(caller(), request) as watch:
            await context.send_initial_metadata(())
            async for event in watch.follow():
                yield event

    async def WritePane(self, request: wire.WritePaneRequest, context: Context) -> Pane:
        return await self._writing.write(caller(), request)

    async def DeleteCanvas(self, request: wire.DeleteCanvasRequest, context: Context) -> wire.DeleteCanvasResponse:
        return await self._writing.delete(caller(), request)

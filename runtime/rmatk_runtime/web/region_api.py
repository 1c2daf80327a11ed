"""The regions in use, seen and changed from the page: everything under ``/v1/regions``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rmatk_runtime.inference.regions import Regions, RegionWish
from rmatk_runtime.sources.base import Source
from rmatk_runtime.web.api import json_body, json_response


class RemoveRegion(msgspec.Struct, forbid_unknown_fields=True):
    """The region to use no more."""

    name: str
    camera: str = ""


@dataclass(frozen=True)
class RegionApi:
    """The handlers, over the regions of a running loop and its cameras."""

    regions: Regions
    source: Source

    def routes(self) -> list[Route]:
        """Everything under its path."""
        return [
            Route("/v1/regions", self.show),
            Route("/v1/regions", self.keep, methods=["POST"]),
            Route("/v1/regions/remove", self.remove, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """All regions in use."""
        return json_response({"regions": self.regions.listed()})

    async def keep(self, request: Request) -> Response:
        """Use a region from the next picture on, and keep it beside the bundle."""
        wish = await json_body(request, RegionWish)
        if wish.camera and wish.camera not in self.source.cameras:
            raise HTTPException(422, f"there is no camera {wish.camera!r}")
        await asyncio.to_thread(self.regions.keep, wish)
        return await self.show(request)

    async def remove(self, request: Request) -> Response:
        """Use a region no more."""
        wanted = await json_body(request, RemoveRegion)
        await asyncio.to_thread(self.regions.remove, wanted.camera, wanted.name)
        return await self.show(request)

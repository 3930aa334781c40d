"""How each model is doing: its waits, its failures, its queue, over all routers of the mesh."""

from services.router.live.lanes import Lane, Place
from services.router.live.live import Live
from services.router.live.tally import Ended, Standing

__all__ = ["Ended", "Lane", "Live", "Place", "Standing"]

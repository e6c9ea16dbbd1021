"""What a job leaves in the scheduler of its cluster.

It imports nothing but Dask, since the scheduler loads all that this module does.
"""

import asyncio
from contextlib import suppress

from distributed import Scheduler, SchedulerPlugin

# Seconds that a job waits for those of lost commands to close: long for a block, and then a worker hangs.
_CLOSING = 60


class Watch(SchedulerPlugin):
    """In a scheduler: lets the workers close a job whose command is gone without having done so.

    A command that was killed, or whose machine was lost, would leave its model in every worker for as long
    as that runs. The scheduler notices by the connection.

    Parameters
    ----------
    client
        Of the command, as Dask names it.
    name
        Of the job's `Desk`, and of this plugin.
    """

    def __init__(self, client: str, name: str) -> None:
        self._client, self._name = client, name
        self._closing: asyncio.Task[None] | None = None

    async def start(self, scheduler: Scheduler) -> None:
        """Begin a job once those of lost commands are closed, which take memory and may write meanwhile."""
        watches = [plugin for plugin in scheduler.plugins.values() if isinstance(plugin, Watch)]
        if closing := [watch._closing for watch in watches if watch._closing is not None]:
            await asyncio.wait(closing, timeout=_CLOSING)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Close the job if this was its command; called by Dask, after it dropped the command's tasks."""
        if client == self._client:
            self._closing = asyncio.create_task(self._close(scheduler))

    async def _close(self, scheduler: Scheduler) -> None:
        try:
            if self._name in scheduler.worker_plugins:
                with suppress(OSError):  # a worker that is lost meanwhile
                    await scheduler.unregister_worker_plugin(None, self._name)
        finally:
            scheduler.remove_plugin(self._name)

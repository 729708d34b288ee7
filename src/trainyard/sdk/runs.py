"""The runs of a client as a collection: `client.runs`."""

from trainyard.sdk import results, training_calls
from trainyard.sdk.binding import Verb
from trainyard.sdk.call import Call, R
from trainyard.sdk.door import AsyncDoor, Door
from trainyard.sdk.run import AsyncRun, Run


class Runs:
    """Create, list and get runs, blocking."""

    def __init__(self, client: Door) -> None:
        """Stand for the runs behind a client.

        Args:
            client: Performs the calls.
        """
        self._client = client

    def _send(self, call: Call[R]) -> R:
        return self._client.send(call)

    def _handle(self, call: Call[results.RunStatus]) -> Run:
        run = self._client.send(call)
        return Run(self._client, run.run_id, run.config)

    create = Verb(training_calls.create_run, _handle)
    get = Verb(training_calls.get_run_status, _handle)
    list = Verb(training_calls.list_runs, _send)


class AsyncRuns:
    """Create, list and get runs, awaited."""

    def __init__(self, client: AsyncDoor) -> None:
        """Stand for the runs behind a client.

        Args:
            client: Performs the calls.
        """
        self._client = client

    async def _send(self, call: Call[R]) -> R:
        return await self._client.send(call)

    async def _handle(self, call: Call[results.RunStatus]) -> AsyncRun:
        run = await self._client.send(call)
        return AsyncRun(self._client, run.run_id, run.config)

    create = Verb(training_calls.create_run, _handle)
    get = Verb(training_calls.get_run_status, _handle)
    list = Verb(training_calls.list_runs, _send)

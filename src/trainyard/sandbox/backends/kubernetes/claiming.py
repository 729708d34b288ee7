"""Getting a pod for a box: a warm one by a conditional change, or the one of a new job."""

import asyncio
import functools
import itertools
import random
import time
from typing import Final

from trainyard.core import errors
from trainyard.sandbox.backends.kubernetes import api, names, pods
from trainyard.sandbox.backends.kubernetes.api import Api, ApiError
from trainyard.sandbox.backends.kubernetes.manifests import Image, Manifests
from trainyard.sandbox.backends.kubernetes.pods import Pod, Pods
from trainyard.sandbox.backends.kubernetes.tending import Tending

_CONFLICT_S: Final = 0.02
"""First bound of the wait after a round in which every ready pod was taken by others."""


class Claims:
    """Which pods and jobs belong to boxes of this server, and how they come to.

    A name stands here before the API server is asked for it, so that tending never takes for left over what is on its
    way; when it is taken off, tending deletes the pod.
    """

    def __init__(self, client: Api, known: Pods, tending: Tending, manifests: Manifests, holder: str) -> None:
        self._api, self._pods, self._tending, self._manifests = client, known, tending, manifests
        self._holder = holder
        self._names = set[str]()

    def __len__(self) -> int:
        return len(self._names)

    def holds(self, name: str) -> bool:
        """Whether a pod or job belongs to a box, or is about to."""
        return name in self._names

    def release(self, name: str) -> None:
        """Give a pod or job up; it is deleted soon."""
        self._names.discard(name)
        self._pods.wake()

    async def get(self, image: Image, deadline: float) -> Pod:
        """Give a ready pod that belongs to this server; its name, or that of its job, is held.

        Raises:
            errors.Unavailable: There is none at the deadline (of the monotonic clock), or none can be made (code
                `sandbox_unavailable`).
        """
        if (claimed := await self._claim(image)) is not None:
            return claimed
        job, refusal = await self._order(image)
        found = None
        try:
            found = await self._wait(image, job, deadline)
        finally:
            if job and (found is None or found.job != job):
                self.release(job)
        if found is None:
            why = self._trouble(image, job) or refusal
            raise unavailable("no box was ready in time (sandbox.kubernetes.ready_s)" + (f": {why}" if why else ""))
        return found

    async def _wait(self, image: Image, job: str, deadline: float) -> Pod | None:
        """Give what comes first: the pod of the job, or a warm one that others do not get."""
        for attempt in itertools.count():
            found = await self._pods.until(functools.partial(self._look, image, job), deadline)
            if found is None or (job and found.job == job):
                return found
            if (claimed := await self._claim(image)) is not None:
                return claimed
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(api.wait_s(attempt, _CONFLICT_S))
        return None

    async def _claim(self, image: Image) -> Pod | None:
        """Try every ready warm pod once, in random order, so that servers seldom want the same one."""
        ready = [pod for pod in self._tending.warm(image.flavor) if pod.is_ready]
        random.shuffle(ready)
        labels = {names.STATE: names.CLAIMED, names.HOLDER: self._holder}
        for pod in ready:
            if self.holds(pod.name):  # another box of this server is about to have it, by now
                continue
            self._names.add(pod.name)
            metadata = {"labels": labels, "resourceVersion": pod.version, "uid": pod.uid}
            try:
                return self._pods.take_in(pods.read(await self._api.patch(api.PODS, pod.name, {"metadata": metadata})))
            except ApiError as error:
                self.release(pod.name)
                if error.status in (404, 409):
                    continue  # somebody was faster, or the pod has changed; the watch tells what has become of it
                raise unavailable(error.text, error) from error
            except BaseException:
                self.release(pod.name)
                raise
        return None

    async def _order(self, image: Image) -> tuple[str, str]:
        """Ask for a job; gives its name, or nothing and why there is none where a warm pod may come instead."""
        job = self._manifests.job(image, self._holder)
        name = str(job["metadata"]["name"])
        self._names.add(name)
        try:
            await self._api.create(api.JOBS, job)
        except ApiError as error:
            self.release(name)
            if image.warm == 0 or error.status == 401:
                raise unavailable(error.text, error) from error
            return "", error.text
        except BaseException:
            self.release(name)
            raise
        return name, ""

    def _look(self, image: Image, job: str) -> Pod | None:
        if job and (pod := self._of_job(job)) is not None:
            if pod.is_ready:
                return pod
            if pod.is_over or pod.is_hopeless:
                raise unavailable(f"a box cannot start: {pod.trouble or 'its pod was deleted'}")
        ready = (pod for pod in self._tending.warm(image.flavor) if pod.is_ready and not self.holds(pod.name))
        return next(ready, None)

    def _of_job(self, job: str) -> Pod | None:
        return next((pod for pod in self._pods.by_name.values() if pod.job == job), None)

    def _trouble(self, image: Image, job: str) -> str:
        """Tell what is known of why nothing was ready."""
        pod = self._of_job(job) if job else None
        facts = (
            pod.trouble if pod is not None else "",
            self._pods.failure.text if self._pods.failure is not None else "",
            self._tending.stocks[image.flavor].failure,
        )
        return next(filter(None, facts), "")


def unavailable(why: str, cause: ApiError | None = None) -> errors.Unavailable:
    """Make the error of `Backend.take`."""
    wait_s = cause.retry_after_s if cause is not None else None
    return errors.Unavailable(why, code="sandbox_unavailable", retry_after_s=wait_s or 1.0)

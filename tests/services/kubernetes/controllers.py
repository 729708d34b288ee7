"""What watches jobs: makes their pods, counts how they end, and takes them away with the job."""

import asyncio
import copy
from collections.abc import Coroutine
from contextlib import suppress

from tests.services.kubernetes import admission, resources
from tests.services.kubernetes.answers import Refused
from tests.services.kubernetes.store import Event, Object, Store, now

_FINALIZER = "batch.kubernetes.io/job-tracking"
_RETRY_S = 0.1


class JobController:
    """One pod per job, never a second one: `backoffLimit` 0 is all that is understood."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stop = store.listen(self._see)
        self._tasks: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        self._stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _see(self, event: Event) -> None:
        if event.resource == resources.JOBS:
            if event.kind == "ADDED":
                self._later(self._make_pod(event.after))
            elif event.kind == "DELETED":
                self._later(self._collect(event.after))
            elif event.after["metadata"].get("deletionTimestamp"):
                self._later(self._finalize(event.after))
        elif event.resource == resources.PODS and _owner(event.after):
            self._later(self._account(event.after))

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_pod(self, job: Object) -> None:
        if job["spec"].get("backoffLimit") != 0 or job["spec"]["template"]["spec"].get("restartPolicy") != "Never":
            raise NotImplementedError("jobs are run once here")
        metadata, namespace = job["metadata"], job["metadata"]["namespace"]
        pod = copy.deepcopy(job["spec"]["template"])
        names = {"job-name": metadata["name"], "batch.kubernetes.io/job-name": metadata["name"]}
        made = pod.setdefault("metadata", {})
        made["labels"] = {**made.get("labels", {}), **names, "controller-uid": metadata["uid"]}
        made |= {"generateName": metadata["name"] + "-", "finalizers": [_FINALIZER]}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
        made["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
        while self._is_there(namespace, metadata["name"]):
            try:
                admitted = admission.admit(self._store, resources.PODS, namespace, pod)
                self._store.create(resources.PODS, namespace, admitted)
            except Refused:
                await asyncio.sleep(_RETRY_S)  # a quota: the real controller tries again, too
            else:
                return

    async def _account(self, pod: Object) -> None:
        """Count a pod that has ended, and let go of it."""
        metadata = pod["metadata"]
        is_ended = admission.is_over(pod) or metadata.get("deletionGracePeriodSeconds") == 0
        if not is_ended or _FINALIZER not in metadata.get("finalizers", []):
            return
        with suppress(Refused):
            self._store.change(
                resources.PODS,
                metadata["namespace"],
                metadata["name"],
                lambda each: each["metadata"].update(finalizers=[]),
            )
        succeeded = pod["status"].get("phase") == "Succeeded"
        condition = {"type": "Complete" if succeeded else "Failed", "status": "True", "lastTransitionTime": now()}
        status = {"succeeded" if succeeded else "failed": 1, "conditions": [condition]}
        job = _owner(pod)
        with suppress(Refused):
            self._store.change(resources.JOBS, metadata["namespace"], job, lambda each: each["status"].update(status))
            ttl_s = self._store.get(resources.JOBS, metadata["namespace"], job)["spec"].get("ttlSecondsAfterFinished")
            if ttl_s is not None:
                await asyncio.sleep(ttl_s)
                self._store.remove(resources.JOBS, metadata["namespace"], job)

    async def _finalize(self, job: Object) -> None:
        """A job that goes away by foreground or orphan: its pods first, or let loose."""
        metadata = job["metadata"]
        finalizers = metadata.get("finalizers", [])
        if "orphan" in finalizers:
            for pod in self._pods(job):
                self._store.change(
                    resources.PODS,
                    metadata["namespace"],
                    pod["metadata"]["name"],
                    lambda each: each["metadata"].update(ownerReferences=[]),
                )
        elif "foregroundDeletion" in finalizers:
            await self._collect(job)
        with suppress(Refused):
            self._store.change(
                resources.JOBS,
                metadata["namespace"],
                metadata["name"],
                lambda each: each["metadata"].pop("finalizers", 0),
            )

    async def _collect(self, job: Object) -> None:
        """Delete what a job has left, as the garbage collector does."""
        for pod in self._pods(job):
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            grace_s = pod["spec"]["terminationGracePeriodSeconds"] if pod["spec"].get("nodeName") else 0

            def mark(each: Object, grace_s: int = grace_s) -> None:
                each["metadata"].setdefault("deletionTimestamp", now())
                each["metadata"].setdefault("deletionGracePeriodSeconds", 0 if admission.is_over(each) else grace_s)

            with suppress(Refused):
                self._store.change(resources.PODS, namespace, name, mark)

    def _pods(self, job: Object) -> list[Object]:
        namespace, uid = job["metadata"]["namespace"], job["metadata"]["uid"]
        return [
            pod
            for pod in self._store.every(resources.PODS, namespace)
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences", []))
        ]

    def _is_there(self, namespace: str, name: str) -> bool:
        return any(each["metadata"]["name"] == name for each in self._store.every(resources.JOBS, namespace))


def _owner(pod: Object) -> str:
    owners = [each["name"] for each in pod["metadata"].get("ownerReferences", []) if each["kind"] == "Job"]
    return owners[0] if owners else ""

"""The one file that knows the client of S3: how it is made, and what its errors mean to us.

The library is imported when the first client is: without `blobs.url` none is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from trainyard.core import errors

_CONNECT_TIMEOUT_S: Final = 2.0
_ATTEMPTS: Final = 2
"""The second is for connections that the server closed while nobody used them."""

_BACKOFF_S: Final = 1.0
"""Most that the client's standard mode waits before the second attempt."""

_SLOWEST_BYTES_PER_S: Final = 256 << 10
"""Whoever takes our bytes more slowly than that counts as away."""

_CONNECTIONS: Final = 50
_NO_BUCKET: Final = "NoSuchBucket"
_BARE_NOT_FOUND: Final = "404"
"""The code that the client makes up for the answer to a HEAD, which has no body to name one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket and how to get there.

    Attributes:
        prefix: Of all keys, without slashes at its ends; may be empty.
        endpoint: Of a server that is not AWS.
        region: None takes that of the AWS environment.
        keys: Key id and secret; None asks the AWS environment, profile and instance.
        is_path_style: Whether the bucket stands in the path.
        timeout_s: Longest wait for one answer, or for the next bytes of one.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    keys: tuple[str, str] | None = None
    is_path_style: bool = False
    timeout_s: float = 10.0


def check_installed() -> None:
    """Return when the library is there.

    Raises:
        errors.ConfigError: It is not.
    """
    try:
        import aiobotocore.session  # noqa: F401 - told at the start, not at the first blob
    except ModuleNotFoundError as error:
        raise errors.ConfigError(
            "blobs.url is set, but the client of S3 is not installed; run: pip install 'trainyard[s3]'",
            param="blobs.url",
        ) from error


def connect(place: Place) -> Any:
    """Make a client, which an `async with` opens; nothing is sent before its first call."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    key_id, secret = place.keys or (None, None)
    config = AioConfig(
        s3={"addressing_style": "path" if place.is_path_style else "auto"},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=place.timeout_s,
        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        max_pool_connections=_CONNECTIONS,
        request_checksum_calculation="when_required",  # many servers refuse what AWS has added since; we verify anyway
        response_checksum_validation="when_required",
    )
    return get_session().create_client(
        "s3",
        region_name=place.region,
        endpoint_url=place.endpoint,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=config,
    )


@asynccontextmanager
async def answering(place: Place, *, sent_bytes: int = 0, absent: errors.NotFound | None = None) -> AsyncIterator[None]:
    """Bound one call, and turn what goes wrong between us and S3 into the errors of the family.

    The client's own timeouts begin when all is sent, so one that takes no bytes would be waited for without end.

    Args:
        place: What is called.
        sent_bytes: Length of the body that goes there.
        absent: Raised where S3 says that there is no such object.

    Raises:
        errors.Unavailable: S3 is away, too slow or overloaded (`blobs_unavailable`, `retry_after_s` is 1), does not
            accept our keys (`blobs_refused`), or has no such bucket (`blobs_bucket_missing`).
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    bound_s = _ATTEMPTS * (place.timeout_s + sent_bytes / _SLOWEST_BYTES_PER_S) + _BACKOFF_S
    try:
        async with asyncio.timeout(bound_s):
            yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if absent is not None and _status(error) == HTTPStatus.NOT_FOUND and code != _NO_BUCKET:
            raise absent from error
        raise _refusal(error, _status(error), code) from error
    except NoCredentialsError as error:
        raise _refusal(error, HTTPStatus.UNAUTHORIZED) from error
    except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _refusal(error) from error


async def is_found(asked: Awaitable[object]) -> bool:
    """Tell whether a question was answered with something or with 404; other errors stay as they are."""
    from botocore.exceptions import ClientError

    try:
        await asked
    except ClientError as error:
        if _status(error) == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True


def told_time(answer: dict[str, Any]) -> datetime:
    """Tell the time by the server's clock, which also dates the objects."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _refusal(cause: BaseException, status: int = 0, code: str = "") -> errors.Unavailable:
    """Make the error for an answer that is none of those that a BlobStore has words for.

    The cause goes into the log alone: strangers read the message of the error.
    """
    _log.warning("The blob store does not answer: %s", " ".join(str(cause).split()) or type(cause).__name__)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return errors.Unavailable("The blob store refuses our keys; an operator has to act", code="blobs_refused")
    if code in (_NO_BUCKET, _BARE_NOT_FOUND):
        return errors.Unavailable(
            "The bucket of the blob store is not there; an operator has to act", code="blobs_bucket_missing"
        )
    return errors.Unavailable(
        "The blob store does not answer; the log says why", code="blobs_unavailable", retry_after_s=1
    )

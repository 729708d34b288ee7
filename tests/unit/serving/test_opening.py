"""Which cache the settings make."""

from pathlib import Path
from typing import Any

import pytest

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.settings import CacheSettings, RedisSettings, Settings
from trainyard.core.telemetry import Metrics
from trainyard.serving import opening
from trainyard.serving.cache.redis import RedisCache
from trainyard.serving.store import DatabaseCache


@pytest.mark.parametrize(
    ("cache", "kind"),
    [
        ({}, DatabaseCache),
        ({"shared": "redis"}, RedisCache),
        ({"shared": "off"}, type(None)),
        ({"shared_bytes": 0}, type(None)),
    ],
)
def test_answers_are_shared_where_the_settings_say(
    tmp_path: Path, database: Database, clock: FakeClock, cache: dict[str, Any], kind: type
) -> None:
    redis = RedisSettings(url="redis://127.0.0.1:1/0")
    effective = Settings(data_dir=tmp_path, cache=CacheSettings(**cache), redis=redis)
    assert isinstance(opening.shared(effective, database, clock), kind)


def test_redis_needs_an_address(tmp_path: Path, database: Database, clock: FakeClock) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        opening.shared(Settings(data_dir=tmp_path, cache=CacheSettings(shared="redis")), database, clock)
    assert caught.value.param == "cache.shared"


def test_a_cache_that_is_switched_off_is_none(tmp_path: Path, database: Database, clock: FakeClock) -> None:
    effective = Settings(data_dir=tmp_path, cache=CacheSettings(enabled=False))
    assert opening.answers(effective, database, clock, Metrics()) is None

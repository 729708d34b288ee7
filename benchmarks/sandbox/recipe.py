"""The usual recipe for state between runs: pickle, compress, base64, Redis; and back.

`python recipe.py PORT` runs in the rival's own environment, makes a frame of 50 MB, and prints one JSON line with the
milliseconds of every save and every restore.
"""

import base64
import json
import sys
import time


def main() -> None:
    """Save and restore three times."""
    import cloudpickle  # type: ignore[import-untyped,unused-ignore]
    import lz4.frame  # type: ignore[import-not-found,unused-ignore]
    import numpy as np
    import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import redis

    client = redis.Redis(port=int(sys.argv[1]))
    names = {"frame": pd.DataFrame(np.random.default_rng(0).random((6_250_000, 1)))}
    saves_ms, loads_ms = [], []
    for _ in range(3):
        began_s = time.perf_counter()
        client.set("state", base64.b64encode(lz4.frame.compress(cloudpickle.dumps(names))))
        saved_s = time.perf_counter()
        stored = client.get("state")
        assert isinstance(stored, bytes)
        cloudpickle.loads(lz4.frame.decompress(base64.b64decode(stored)))
        saves_ms.append((saved_s - began_s) * 1e3)
        loads_ms.append((time.perf_counter() - saved_s) * 1e3)
    print(json.dumps({"saves_ms": saves_ms, "loads_ms": loads_ms}))


if __name__ == "__main__":
    main()

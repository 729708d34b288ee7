"""`python -I -S __main__.py`: becomes a zygote whose boxes bubblewrap makes."""

import sys
from pathlib import Path

_PACKAGES = str(Path(__file__).resolve().parents[4])


def _begin() -> None:
    sys.path.insert(0, _PACKAGES)
    from trainyard.sandbox.inside.bubblewrap import arranging
    from trainyard.sandbox.inside.zygote import main

    main.load_runner()
    sys.path.remove(_PACKAGES)
    main.run(arranging.arrange)


if __name__ == "__main__":
    _begin()

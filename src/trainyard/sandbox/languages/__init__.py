"""The languages of the sandbox: which there are on this machine, how each is run, what was compiled before.

In: what lies under /usr and in `sandbox.packages`, source text. Out: `types.orders.Program`s and `LanguageInfo`s. Not
here: running anything but `--version` (the backends do), the live Python interpreter (`inside/`).
"""

from trainyard.sandbox.languages.builds import Builds
from trainyard.sandbox.languages.catalog import ETC, Language, Languages
from trainyard.sandbox.languages.recipe import Prepared
from trainyard.sandbox.languages.toolchain import Reach

__all__ = ["ETC", "Builds", "Language", "Languages", "Prepared", "Reach"]

"""Open figures of matplotlib: shown as images, saved as files unless the code has done so, closed."""

import base64
import functools
import importlib.abc
import importlib.machinery
import io
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from trainyard.sandbox.inside import border, numbered, variables

PYPLOT = "matplotlib.pyplot"

Emit = Callable[[str, dict[str, str], str | None], None]


class Figures:
    """The figures of one interpreter; `plt.show()` and `Figure.savefig` tell it what the code does with them."""

    def __init__(self, workspace: Path, emit: Emit) -> None:
        self._workspace = workspace
        self._emit = emit
        self._files = numbered.Series(workspace, "figure", ".png")
        self._saved: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        if PYPLOT in sys.modules:
            self._attach()
        else:
            sys.meta_path.insert(0, _AfterPyplot(self._attach))

    def show(self) -> None:
        """Emit every open figure that has something in it, and close them all."""
        pyplot = variables.loaded_module(PYPLOT)
        for number in pyplot.get_fignums() if hasattr(pyplot, "get_fignums") else ():
            self._take(pyplot, pyplot.figure(number), "display_data")

    def close(self) -> None:
        """Close every figure."""
        pyplot = variables.loaded_module(PYPLOT)
        if hasattr(pyplot, "close"):
            border.attempt(pyplot.close, "all")

    def show_if_open(self, value: Any, kind: str = "display_data") -> bool:
        """Emit and close a value that is an open figure; whether it is one."""
        if not variables.is_a(value, "matplotlib.figure", "Figure"):
            return False
        pyplot = variables.loaded_module(PYPLOT)
        if pyplot is None or not pyplot.fignum_exists(getattr(value, "number", -1)):
            return False
        self._take(pyplot, value, kind)
        return True

    def _take(self, pyplot: Any, figure: Any, kind: str) -> None:
        try:
            if figure.axes or figure.lines or figure.texts or figure.images:
                self._emit(kind, *self._shaped(figure))
        finally:
            pyplot.close(figure)

    def _shaped(self, figure: Any) -> tuple[dict[str, str], str | None]:
        data = {"text/plain": border.attempt(repr, figure)[0] or "<Figure>"}
        image, failure = border.attempt(_png, figure)
        if image is None:
            return data | {"text/plain": f"{data['text/plain']}\n(it cannot be drawn: {failure})"}, None
        file = self._saved.get(figure)
        if file is None:
            file, failure = border.attempt(self._files.save, lambda target: target.write(image))
        if failure is not None:
            data["text/plain"] += f"\n(no file: {failure})"
        return data | {"image/png": base64.b64encode(image).decode()}, file

    def _attach(self) -> None:
        """Take the places of `plt.show`, which has no window here, and of `Figure.savefig`."""
        pyplot = sys.modules[PYPLOT]
        figure_class = variables.loaded("matplotlib.figure", "Figure")
        savefig = figure_class.savefig

        @functools.wraps(savefig)
        def save_and_tell(figure: Any, fname: Any, **options: Any) -> Any:
            saved = savefig(figure, fname, **options)
            self._note(figure, fname)
            return saved

        @functools.wraps(pyplot.show)
        def show(*, block: bool | None = None) -> None:
            self.show()  # nothing waits for a window, whatever `block` says

        figure_class.savefig = save_and_tell
        pyplot.show = show  # type: ignore[attr-defined] # a module of the user's environment

    def _note(self, figure: Any, target: Any) -> None:
        if not isinstance(target, str | os.PathLike):
            return
        path = Path(os.path.realpath(os.fspath(target)))
        root = Path(os.path.realpath(self._workspace))
        if path.is_relative_to(root):
            self._saved[figure] = path.relative_to(root).as_posix()


def _png(figure: Any) -> bytes:
    target = io.BytesIO()
    figure.canvas.print_figure(target, format="png", bbox_inches="tight")
    return target.getvalue()


class _AfterPyplot(importlib.abc.MetaPathFinder):
    """Calls back when `matplotlib.pyplot` has been imported for the first time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find that one module, to be loaded in the ordinary way."""
        if fullname != PYPLOT:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._loaded)
        return spec

    def _loaded(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._call()


class _Loader(importlib.abc.Loader):
    """Loads with another loader, then calls back."""

    def __init__(self, loader: Any, call: Callable[[], None]) -> None:
        self._loader = loader
        self._call = call

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """Make the module."""
        module: types.ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Run it, as if the other loader had been asked."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._call()

import base64
import csv
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sandbox.inside.conftest import Science

PNG = b"\x89PNG\r\n\x1a\n"
PLOT = "import matplotlib.pyplot as plt\n"
FRAME = "import numpy as np, pandas as pd\n"


def shown(results: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
    """Give kind, text or `image`, and file of each."""
    return [
        (one["kind"], "image" if "image/png" in one["data"] else one["data"]["text/plain"], one["file"])
        for one in results
    ]


@pytest.mark.parametrize(
    ("code", "outputs", "files"),
    [
        ("plt.plot([1])", ["result", "figure-1.png"], ["figure-1.png"]),
        ("plt.plot([1]);", ["figure-1.png"], ["figure-1.png"]),
        ("plt.plot([1])\nplt.show()\nplt.plot([2])\nplt.show()", ["figure-1.png", "figure-2.png"], None),
        ("plt.plot([1])\nplt.show(block=False)", ["figure-1.png"], None),
        ("plt.plot([1])\nplt.close()", [], []),
        ("plt.figure();", [], []),
        ("fig, ax = plt.subplots()\nax.plot([1])\nfig", ["figure-1.png"], ["figure-1.png"]),
        ("plt.plot([1])\nplt.savefig('mine.png')", ["mine.png"], ["mine.png"]),
        ("import os\nos.mkdir('d')\nplt.plot([1])\nplt.savefig('d/m.pdf')", ["d/m.pdf"], ["d"]),
        ("plt.plot([1])\nplt.savefig('mine.png')\nplt.close()", [], ["mine.png"]),
        ("import io\nplt.plot([1])\nplt.savefig(io.BytesIO())", ["figure-1.png"], ["figure-1.png"]),
        ("for i in range(2):\n    plt.figure()\n    plt.plot([i])", ["figure-1.png", "figure-2.png"], None),
        ("open('figure-1.png', 'w').close()\nplt.plot([1]);", ["figure-2.png"], ["figure-1.png", "figure-2.png"]),
        ("import os\nos.symlink('/dev/null', 'figure-1.png')\nplt.plot([1]);", ["figure-2.png"], None),
        ("display('a')\nplt.plot([1])\nplt.show()\ndisplay('b')", ["'a'", "figure-1.png", "'b'"], None),
        ("f = plt.figure()\nplt.plot([1])\ndisplay(f)\ndisplay('b')", ["figure-1.png", "'b'"], ["figure-1.png"]),
    ],
)  # fmt: skip
def test_figures_are_shown_saved_and_closed(
    code: str, outputs: list[str], files: list[str] | None, science: Science, tmp_path: Path
) -> None:
    results = science.run(PLOT + code)
    names = [file or ("result" if kind == "execute_result" else text) for kind, text, file in shown(results)]
    assert names == outputs
    assert files is None or sorted(path.name for path in tmp_path.iterdir()) == files
    for result in results:
        if "image/png" in result["data"]:
            image = base64.b64decode(result["data"]["image/png"])
            assert image.startswith(PNG)
            if str(result["file"]).startswith("figure"):
                assert (tmp_path / result["file"]).read_bytes() == image
    assert shown(science.run("plt.get_fignums()")) == [("execute_result", "[]", None)]


def test_figures_of_two_runs_have_numbers_of_their_own(science: Science) -> None:
    files = [shown(science.run(f"{PLOT}plt.plot([1]);"))[0][2] for _ in range(2)]
    assert files == ["figure-1.png", "figure-2.png"]


def test_a_run_that_fails_shows_what_it_has_shown_and_leaves_no_figure_to_the_next(science: Science) -> None:
    shown_before = science.ask("fail", f"{PLOT}plt.plot([1])\nplt.show()\nplt.plot([2])")
    assert [file for _, _, file in shown(shown_before)] == ["figure-1.png"]
    assert shown(science.run("plt.get_fignums()")) == [("execute_result", "[]", None)]


def test_a_figure_that_cannot_be_drawn_is_told(science: Science, tmp_path: Path) -> None:
    [result] = science.run(f"{PLOT}plt.plot([1])\nplt.title('$\\\\frac{{$');")
    assert "(it cannot be drawn: ValueError" in result["data"]["text/plain"]
    assert (list(result["data"]), result["file"], list(tmp_path.iterdir())) == (["text/plain"], None, [])


def test_a_figure_whose_file_cannot_be_written_is_shown_nevertheless(science: Science) -> None:
    code = f"{PLOT}plt.plot([1])\nimport os, shutil\nshutil.rmtree(os.getcwd());"
    [result] = science.run(code)
    assert (sorted(result["data"]), result["file"]) == (["image/png", "text/plain"], None)
    assert "(no file: FileNotFoundError" in result["data"]["text/plain"]


def test_a_table_comes_as_text_html_and_file(science: Science, tmp_path: Path) -> None:
    [result] = science.run(f"{FRAME}df = pd.DataFrame({{'a': [1, 2], 'b': ['x', 'é']}})\ndf")
    assert (result["kind"], result["file"]) == ("execute_result", "table-1.csv")
    assert result["data"]["text/plain"] == "   a  b\n0  1  x\n1  2  é"
    assert "<td>é</td>" in result["data"]["text/html"]
    with (tmp_path / "table-1.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["", "a", "b"], ["0", "1", "x"], ["1", "2", "é"]]


def test_a_large_table_is_shown_in_bounds_without_a_file(science: Science, tmp_path: Path) -> None:
    code = f"{FRAME}pd.set_option('display.max_rows', None)\npd.DataFrame({{'a': np.arange(600_000)}})"
    [result] = science.run(code)
    science.run("pd.reset_option('display.max_rows')")
    assert "(no file: a table of 600000 cells, at most 500000 are saved)" in result["data"]["text/plain"]
    assert (result["file"], list(tmp_path.iterdir())) == (None, [])
    assert len(result["data"]["text/html"]) < 200_000
    assert "599999" in result["data"]["text/html"]


def test_a_table_with_hostile_values_is_told(science: Science) -> None:
    code = f"{FRAME}class A:\n    def __repr__(self): raise ValueError('no')\npd.DataFrame({{'a': [A()]}})"
    [result] = science.run(code)
    assert "failed: ValueError: no" in result["data"]["text/plain"]
    assert "(no file: ValueError: no)" in result["data"]["text/plain"]


def test_displayed_tables_have_files_too(science: Science) -> None:
    results = science.run(f"{FRAME}display(pd.DataFrame({{'a': [1]}}))\npd.DataFrame({{'a': [2]}})")
    assert [(kind, file) for kind, _, file in shown(results)] == [
        ("display_data", "table-1.csv"),
        ("execute_result", "table-2.csv"),
    ]


def test_tables_are_listed_with_size_and_shape(science: Science) -> None:
    science.run(f"{FRAME}df = pd.DataFrame(np.zeros((1000, 2)), columns=['a', 'b'])\ns = df.a")
    frame, series = science.ask("listing")
    assert (frame["type"].split(".")[-1], frame["preview"]) == ("DataFrame", "1000 rows x 2 columns: 'a', 'b'")
    assert 16_000 <= frame["bytes"] < 17_000
    assert (series["type"].split(".")[-1], series["preview"]) == ("Series", "1000 x float64")


@pytest.mark.parametrize(
    ("code", "question", "answer"),
    [
        ("df = pd.DataFrame(np.arange(200_000).reshape(-1, 2), columns=['a', 'b'])", "int(df.b.iloc[-1])", "199999"),
        ("df = pd.DataFrame({'a': [1], 'b': ['é']}); same = df", "same is df", "True"),
        ("df = pd.DataFrame({'t': pd.date_range('2026', periods=3)})", "str(df.t[2].date())", "'2026-01-03'"),
        ("df = pd.DataFrame({'c': pd.Categorical(['a', 'b', 'a'])})", "str(df.c.cat.categories[1])", "'b'"),
        ("df = pd.DataFrame(np.zeros((50_000, 2)))", "df.__setitem__(0, 5.0); float(df[0].sum())", "250000.0"),
        ("df = pd.DataFrame(np.zeros((50_000, 2)))", "df.iloc[0, 0] = 5.0; float(df[0].sum())", "5.0"),
        ("a, b = (np.random.default_rng(1) for _ in 'ab'); first = a.random()", "b.random() == first", "True"),
        ("import matplotlib.pyplot as plt; plt.close('all')", "plt.__name__", "'matplotlib.pyplot'"),
        ("from matplotlib.pyplot import show", "import matplotlib.pyplot as p; show is p.show", "True"),
    ],
)  # fmt: skip
def test_science_survives_a_checkpoint(code: str, question: str, answer: str, science: Science, tmp_path: Path) -> None:
    science.run(FRAME + code)
    path = str(tmp_path / "state")
    assert science.ask("dump", path)["dropped"] == []
    science.ask("begin", str(tmp_path))
    assert science.ask("load", path)["dropped"] == []
    assert shown(science.run(question)) == [("execute_result", answer, None)]


def test_a_large_frame_is_written_once_and_read_without_a_copy(science: Science, tmp_path: Path) -> None:
    science.run(f"{FRAME}df = pd.DataFrame(np.zeros((100_000, 10)))\nholder = {{'df': df}}\nvalues = df.to_numpy()")
    path = tmp_path / "state"
    dumped = science.ask("dump", str(path))
    assert 8_000_000 <= dumped["size_bytes"] == path.stat().st_size < 16_100_000
    science.ask("begin", str(tmp_path))
    science.ask("load", str(path))
    before = path.read_bytes()
    assert shown(science.run("holder['df'] is df")) == [("execute_result", "True", None)]
    science.run("df.iloc[:, :] = 1.0")
    assert path.read_bytes() == before


def test_pyplot_is_watched_when_it_is_imported_after_the_beginning(tmp_path_factory: pytest.TempPathFactory) -> None:
    fresh = Science(tmp_path_factory.mktemp("fresh_libraries"))
    try:
        fresh.ask("begin", str(tmp_path_factory.mktemp("workspace")))
        imported = (
            "import sys\n[name for name in ('numpy', 'pandas', 'matplotlib', 'cloudpickle') if name in sys.modules]"
        )
        assert shown(fresh.run(imported)) == [("execute_result", "[]", None)]
        results = fresh.run(f"from matplotlib.pyplot import show\n{PLOT}plt.plot([1])\nshow()\ndisplay('after')")
        assert [file or text for _, text, file in shown(results)] == ["figure-1.png", "'after'"]
        watching = "[type(one).__name__ for one in sys.meta_path if 'Pyplot' in type(one).__name__]"
        assert shown(fresh.run(watching)) == [("execute_result", "[]", None)]
    finally:
        fresh.close()

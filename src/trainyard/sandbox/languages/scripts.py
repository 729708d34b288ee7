"""Languages that a program reads and runs: JavaScript, TypeScript, PHP, R, bash."""

from typing import Final

from trainyard.sandbox.languages.recipe import Prepared, Recipe, interpreted
from trainyard.sandbox.languages.toolchain import Toolchain
from trainyard.sandbox.types.orders import Program, Step

_HEAP_SHARE: Final = 0.75

_BOTH_MODULE_KINDS: Final = (
    'import{createRequire as __createRequire}from"node:module";'
    'import{fileURLToPath as __toPath}from"node:url";'
    "globalThis.require=__createRequire(import.meta.url);"
    "globalThis.module=globalThis.require.main={exports:{}};"
    "globalThis.exports=globalThis.module.exports;"
    "globalThis.__filename=__toPath(import.meta.url);"
    'globalThis.__dirname=globalThis.__filename.replace(/\\/[^/]*$/,"");'
)
"""Put before translated TypeScript, which runs as an ES module for the sake of `await` outside of functions: what
CommonJS has beside that. They are properties of the global object, so that code may declare the same names."""


def _javascript(tools: Toolchain, code: str) -> Prepared:
    return Prepared(code, interpreted("main.js", *_node(tools)))


def _node(tools: Toolchain) -> tuple[str, ...]:
    return tools["node"], "--no-warnings", f"--max-old-space-size={tools.share_mib(_HEAP_SHARE)}"


def _typescript(tools: Toolchain, code: str) -> Prepared:
    translate = (
        *(tools["esbuild"], "{file}", "--outfile={dir}/main.mjs"),
        *("--format=esm", "--platform=node", "--target=node18", "--sourcemap=inline", "--log-level=error"),
        f"--banner:js={_BOTH_MODULE_KINDS}",
    )
    run = (*_node(tools), "--enable-source-maps", "{dir}/main.mjs", "{args}")
    steps = (Step(phase="compile", argv=translate), Step(phase="run", argv=run))
    return Prepared(code, Program(file="main.ts", steps=steps))  # translated in less time than an artifact is fetched


def _php(tools: Toolchain, code: str) -> Prepared:
    told = (
        *("-d", "display_errors=stderr", "-d", "html_errors=0", "-d", "log_errors=0"),
        *("-d", f"memory_limit={tools.memory_bytes}"),
    )
    text = code if "<?" in code else f"<?php {code}"  # on the same line, so that messages name the right one
    return Prepared(text, interpreted("main.php", tools["php"], *told))


def _r(tools: Toolchain, code: str) -> Prepared:
    return Prepared(code, interpreted("main.R", tools["Rscript"], "--vanilla"))


def _bash(tools: Toolchain, code: str) -> Prepared:
    return Prepared(code, interpreted("main.sh", tools["bash"], "--norc"))


def _python(tools: Toolchain, code: str) -> Prepared:
    return Prepared(code, None)


PYTHON: Final = Recipe(
    code="py", name="Python", aliases=("python", "python3", "py3"), needs=(), prepare=_python, package=""
)
"""Needs nothing: every box has its interpreter."""

RECIPES: Final = (
    Recipe(
        code="js",
        name="JavaScript",
        aliases=("javascript", "node", "nodejs"),
        needs=("node",),
        prepare=_javascript,
        package="nodejs",
    ),
    Recipe(
        code="ts",
        name="TypeScript",
        aliases=("typescript",),
        needs=("esbuild", "node"),
        prepare=_typescript,
        maker="esbuild",
        package="esbuild, by `trainyard sandbox setup`",
    ),
    Recipe(code="php", name="PHP", aliases=(), needs=("php",), prepare=_php, package="php-cli"),
    Recipe(code="r", name="R", aliases=("rscript",), needs=("Rscript",), prepare=_r, package="r-base-core"),
    Recipe(code="bash", name="Bash", aliases=("sh", "shell"), needs=("bash",), prepare=_bash, package="bash"),
)

"""Languages that are compiled first: C, C++, Rust, D, Fortran, Go, Java.

Warnings are off everywhere: a build that is taken from the cache says nothing, so the first must not either.
"""

from typing import Final

from msgspec import structs

from trainyard.sandbox.languages import java
from trainyard.sandbox.languages.recipe import ARTIFACT, Prepared, Recipe, compiled
from trainyard.sandbox.languages.toolchain import Toolchain
from trainyard.sandbox.types.orders import Program, Step

_OUT: Final = "{dir}/" + ARTIFACT
_C_LIBRARY: Final = "/usr/include/stdio.h"
_HEAP_SHARE: Final = 0.6
"""A JVM takes some 60 MB beside its heap, and the box has the files of the workspace too."""


def _c(tools: Toolchain, code: str) -> Prepared:
    flags = ("-std=gnu17", "-O2", "-w", "-pthread", "-o", _OUT, "{file}", "-lm")
    return Prepared(code, compiled("main.c", tools["gcc"], *flags))


def _cpp(tools: Toolchain, code: str) -> Prepared:
    flags = ("-std=gnu++20", "-O2", "-w", "-pthread", "-o", _OUT, "{file}")
    return Prepared(code, compiled("main.cpp", tools["g++"], *flags))


def _rust(tools: Toolchain, code: str) -> Prepared:
    flags = ("--edition=2021", "--cap-lints=allow", "-O", "-C", "strip=debuginfo", "-C", f"linker={tools['gcc']}")
    return Prepared(code, compiled("main.rs", tools["rustc"], *flags, "-o", _OUT, "{file}"))


def _d(tools: Toolchain, code: str) -> Prepared:
    flags = ("-O1", "-d", f"--gcc={tools['gcc']}", "-od={dir}", f"-of={_OUT}", "{file}")
    return Prepared(code, compiled("main.d", tools["ldc2"], *flags))


def _fortran(tools: Toolchain, code: str) -> Prepared:
    flags = ("-O2", "-w", "-J", "{dir}", "-o", _OUT, "{file}")
    return Prepared(code, compiled("main.f90", tools["gfortran"], *flags))


def _go(tools: Toolchain, code: str) -> Prepared:
    caches = ("GOCACHE={dir}/go-cache", "GOPATH={dir}/go-path", "GOENV=off")
    alone = ("GO111MODULE=off", "GOPROXY=off", "GOTOOLCHAIN=local", "GOFLAGS=", "CGO_ENABLED=0")
    build = (tools["env"], *caches, *alone, tools["go"], "build", "-o", _OUT, "{file}")
    program = compiled("main.go", *build)
    return Prepared(code, structs.replace(program, env={"GOMEMLIMIT": f"{tools.share_mib(0.8)}MiB"}))


def _java(tools: Toolchain, code: str) -> Prepared:
    source = java.read(code)
    quick = ("-J-XX:+UseSerialGC", "-J-XX:TieredStopAtLevel=1", "-J-XX:-UsePerfData")
    heap_mib = tools.share_mib(_HEAP_SHARE)
    warnings = ("-nowarn", "-Xlint:none", "-XDsuppressNotes", "-proc:none")
    compile_it = (tools["javac"], *quick, f"-J-Xmx{heap_mib}m", *warnings, "-encoding", "UTF-8", "-d", "{dir}/classes")
    pack = (tools["jar"], *quick, "--create", "--no-compress", "--file", _OUT, "-C", "{dir}/classes", ".")
    run = (tools["java"], "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto", f"-Xmx{heap_mib}m")
    steps = (
        Step(phase="compile", argv=(*compile_it, "{file}")),
        Step(phase="compile", argv=pack),
        Step(phase="run", argv=(*run, "-cp", _OUT, source.main_class, "{args}")),
    )
    return Prepared(code, Program(file=source.file, steps=steps, artifact=ARTIFACT))


_LINKER: Final = ("gcc", "as", "ld")

RECIPES: Final = (
    Recipe(
        code="go",
        name="Go",
        aliases=("golang",),
        needs=("go", "env"),
        prepare=_go,
        version=("version",),
        package="golang-go",
    ),
    Recipe(
        code="java",
        name="Java",
        aliases=(),
        needs=("javac", "java", "jar"),
        prepare=_java,
        package="openjdk-17-jdk-headless",
    ),
    Recipe(
        code="c",
        name="C",
        aliases=(),
        needs=_LINKER,
        files=(_C_LIBRARY,),
        prepare=_c,
        version=("-dumpfullversion",),
        maker="gcc",
        package="gcc and libc6-dev",
    ),
    Recipe(
        code="cpp",
        name="C++",
        aliases=("c++", "cxx", "cc"),
        needs=("g++", "as", "ld"),
        files=(_C_LIBRARY, "/usr/include/c++/*/iostream"),
        prepare=_cpp,
        version=("-dumpfullversion",),
        maker="g++",
        package="g++",
    ),
    Recipe(code="rs", name="Rust", aliases=("rust",), needs=("rustc", *_LINKER), prepare=_rust, package="rustc"),
    Recipe(
        code="f90",
        name="Fortran",
        aliases=("fortran", "f95", "f03", "f08"),
        needs=("gfortran", "as", "ld"),
        prepare=_fortran,
        version=("-dumpfullversion",),
        maker="gfortran",
        package="gfortran",
    ),
    Recipe(
        code="d",
        name="D",
        aliases=("dlang",),
        needs=("ldc2", *_LINKER),
        prepare=_d,
        maker="ldc",
        package="ldc",
    ),
)

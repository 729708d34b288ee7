"""The version of the installed package, for parts that may not import the package's front."""

from importlib import metadata

VERSION = metadata.version("trainyard")

"""What a report for others must not tell: home folders, the user's and the machine's name."""

from __future__ import annotations

import contextlib
import getpass
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Names", "scrub", "shorten"]


@dataclass(frozen=True)
class Names:
    """What must not be told."""

    home: str = ""
    user: str = ""
    host: str = ""

    @staticmethod
    def of_this_machine() -> Names:
        """Names of the user who runs this, and of the machine."""
        home = user = ""
        with contextlib.suppress(RuntimeError):
            home = str(Path.home())
        with contextlib.suppress(OSError, KeyError, ImportError):
            user = getpass.getuser()
        return Names(home, user, platform.node())


def shorten(text: str, names: Names) -> str:
    """The text with the home folder as ``~``, and without the names.

    >>> shorten("/home/ada/x in /media/ada/disk on box-7", Names("/home/ada", "ada", "box-7"))
    '~/x in /media/<user>/disk on <host>'
    """
    if len(names.home) > 1:
        text = re.sub(rf"{re.escape(names.home)}(?![\w.-])", "~", text)
    if names.user:
        # As a part of a path only: a user may be called like a package.
        text = re.sub(rf"(?<=[/\\]){re.escape(names.user)}(?=[/\\]|$)", "<user>", text)
    if len(names.host) > 3 and names.host != "localhost":
        text = re.sub(rf"(?<![\w.-]){re.escape(names.host)}(?![\w-])", "<host>", text)
    # Others' home folders, such as that of who built a package.
    return re.sub(r"(?<![\w.~-])((?:/home|/Users)/|[A-Za-z]:\\Users\\)[^/\\\s:'\"]+", "~", text)


def scrub(value: Any, names: Names) -> Any:
    """Every text in nested dictionaries and lists, shortened. Keys stay as they are."""
    if isinstance(value, str):
        return shorten(value, names)
    if isinstance(value, dict):
        return {key: scrub(item, names) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub(item, names) for item in value]
    return value

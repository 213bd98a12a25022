"""From words to files: images first, then perhaps a text; folders and patterns as the files in them."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from salgan_edge.errors import ImageError
from salgan_edge.files import natural_order
from salgan_edge.images import IMAGE_SUFFIXES
from salgan_edge.video.sources import is_video

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["expand_images", "split_arguments"]


def split_arguments(words: Sequence[str], texts: Sequence[str]) -> tuple[list[str], list[str | None]]:
    """Separate images from the text.

    A word that names an existing file or folder, or a pattern that matches images, is an image. A
    last word that does not is the text, unless it looks like the path of an image or a folder.

    Args:
        words: arguments in order.
        texts: values of ``--text``.

    Returns:
        Images, and prompts; the only prompt is None for free viewing.

    Raises:
        ImageError: a word before the last does not exist, unless it looks like the path of an image and
            there are others; or there is no image.
    """
    images, prompts = list(words), list(texts)
    if (
        images
        and not _exists(images[-1])
        and not _looks_like_image(images[-1])
        and (len(images) > 1 or not prompts)
    ):
        prompts.append(images.pop())
    there = [word for word in images if _exists(word)]
    for word in images:
        if not _exists(word):
            if there and _names_file(word):
                continue  # the others are used first, and this one is an error of its own
            hint = (
                "" if _looks_like_image(word) else "; a text goes last, in quotation marks, or after --text"
            )
            if "://" in word:
                hint = "; addresses go to salgan-edge webcam --source"
            raise ImageError(
                f"{word} does not exist: an image, a video, a folder or a matching pattern was expected{hint}"
            )
    if not images:
        raise ImageError(
            f'no image was given, only the text "{prompts[-1]}": put the path of an image before it'
        )
    return images, list(dict.fromkeys(prompts)) or [None]


def expand_images(words: Sequence[str]) -> list[Path]:
    """Paths of images, folders (their images and videos in natural order, not deeper) and globs, each once.

    Raises:
        ImageError: a folder without images.
    """
    files: list[Path] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            try:
                found = sorted((p for p in path.iterdir() if _is_input(p)), key=natural_order)
            except OSError as error:
                raise ImageError(f"cannot list {path}: {error.strerror or error}") from error
            if not found:
                suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
                raise ImageError(
                    f"{path} holds no images: files ending in {suffixes}, or videos, were expected"
                )
            files += found
        elif path.exists():
            files.append(path)
        else:
            # A file that is missing stays in its place, and fails when it is its turn.
            files += _matches(word) or [path]
    # The same file under two names is one image.
    first: dict[Path, Path] = {}
    for file in files:
        first.setdefault(file.resolve(), file)
    return list(first.values())


def _exists(word: str) -> bool:
    if not word.strip():
        # An empty path would be the current folder; here it is an empty text.
        return False
    try:
        return Path(word).exists() or bool(_matches(word))
    except OSError:
        # A long text is no possible name of a file.
        return False


def _matches(pattern: str) -> list[Path]:
    """Images and videos that a pattern matches; other files do not count, so a question mark may end a text."""
    found = [Path(match) for match in glob.glob(pattern)]  # noqa: PTH207 - the pattern may be absolute
    found.sort(key=lambda path: (str(path.parent), natural_order(path)))
    return [path for path in found if _is_input(path)]


def _is_input(path: Path) -> bool:
    return (path.suffix.lower() in IMAGE_SUFFIXES or is_video(path)) and path.is_file()


def _names_file(word: str) -> bool:
    """Whether a word is the path of one image or video, there or not: no address, folder or pattern."""
    return (
        _looks_like_image(word)
        and not word.endswith("/")
        and not any(mark in word for mark in ("://", *"*?["))
    )


def _looks_like_image(word: str) -> bool:
    return Path(word).suffix.lower() in IMAGE_SUFFIXES or is_video(word) or word.endswith("/")

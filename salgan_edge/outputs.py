"""Where results go: names of pictures, maps and videos, none of which replaces another or an input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from salgan_edge.errors import OutputError
from salgan_edge.files import slug
from salgan_edge.images import IMAGE_SUFFIXES
from salgan_edge.video.sources import VIDEO_SUFFIXES, is_video

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salgan_edge.result import SaliencyResult

__all__ = ["OutputNames", "Written"]


class Written(NamedTuple):
    """Files of one image: overlay (and map) of each result, and the sheet if there is one."""

    results: list[dict[str, Path]]
    sheet: list[Path]


class OutputNames:
    """Where the results of each image go.

    Raises:
        OutputError: one output file was named for several results, or it would replace an input.
    """

    def __init__(self, output: Path | None, files: Sequence[Path], texts: Sequence[str | None]) -> None:
        from salgan_edge.video.recording import RECORDING_SUFFIXES  # noqa: PLC0415 - needs OpenCV

        kinds = {*IMAGE_SUFFIXES, *RECORDING_SUFFIXES, *VIDEO_SUFFIXES, ".npy"}
        is_file = output is not None and output.suffix.lower() in kinds and not output.is_dir()
        if is_file and (len(files) > 1 or len(texts) > 1):
            raise OutputError(
                f"{output} is one file for {len(files)} inputs and {len(texts)} texts: give a folder with --output"
            )
        if (
            is_file
            and output is not None
            and output.suffix.lower()
            not in (RECORDING_SUFFIXES if is_video(files[0]) else {*IMAGE_SUFFIXES, ".npy"})
        ):
            wanted = ", ".join(sorted(RECORDING_SUFFIXES if is_video(files[0]) else {".jpg", ".npy", ".png"}))
            raise OutputError(f"{output} does not fit {files[0]}: one of {wanted} was expected")
        self._file = output if is_file else None
        self._folder = Path() if output is None or is_file else output
        if self._file is not None and any(self._file.resolve() == file.resolve() for file in files):
            raise OutputError(f"{output} is an input: give another --output")
        self._taken: set[Path] = {file.resolve() for file in files}

    def write(self, file: Path, results: Sequence[SaliencyResult], map_suffix: str | None) -> Written:
        """Write the overlays, the maps if wanted, and a sheet of several."""
        written = Written([], [])
        for result in results:
            paths = {"overlay": self._file or self._free(f"{file.stem}_{slug(result.text)}", ".png")}
            result.save(paths["overlay"])
            if map_suffix:
                overlay = paths["overlay"]
                paths["map"] = self._free(f"{overlay.stem}_map", map_suffix, overlay.parent)
                result.save_map(paths["map"])
            written.results.append(paths)
        if len(results) > 1:
            written.sheet.append(self._sheet(file, results))
        return written

    def videos(self, file: Path, texts: Sequence[str | None], *, maps: bool) -> tuple[list[Path], list[Path]]:
        """Where the overlay video of each text goes, and its maps (none unless wanted)."""
        overlays = [self._file or self._free(f"{file.stem}_{slug(text)}", ".mp4") for text in texts]
        wanted = overlays if maps else []
        return overlays, [self._free(f"{path.stem}_map", ".npy", path.parent) for path in wanted]

    def _sheet(self, file: Path, results: Sequence[SaliencyResult]) -> Path:
        from salgan_edge import render  # noqa: PLC0415
        from salgan_edge.images import write_image  # noqa: PLC0415

        captions = [result.text or "free viewing" for result in results]
        path = self._free(f"{file.stem}_sheet", ".png")
        write_image(path, render.sheet(results[0].image, [result.overlay() for result in results], captions))
        return path

    def _free(self, stem: str, suffix: str, folder: Path | None = None) -> Path:
        """A path that no other result of this run has, and no input."""
        folder = folder or self._folder
        path, number = folder / f"{stem}{suffix}", 1
        while path.resolve() in self._taken:
            number += 1
            path = folder / f"{stem}-{number}{suffix}"
        self._taken.add(path.resolve())
        return path

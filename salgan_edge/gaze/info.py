"""What a gaze folder says about itself: ``dataset.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from salgan_edge.errors import DataError
from salgan_edge.files import writing

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DatasetInfo"]


@dataclass(frozen=True)
class DatasetInfo:
    """Name, terms and viewing set-up of a data set; every field may be left out of the file.

    Raises:
        ValueError: a field is out of its range.
    """

    name: str = ""
    """Name for people; empty: the folder's."""
    licence: str = ""
    """Terms of use, in the publisher's words."""
    source: str = ""
    """Where it comes from: a paper, an address."""
    blur_degree_share: float = 24 / 800
    """One degree of visual angle as a share of the photo's width: the standard deviation with which
    fixations are blurred where no map was published. The default is OSIE's set-up."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.blur_degree_share < 0.5:
            raise ValueError(
                f"blur_degree_share is {self.blur_degree_share}: a share of the width in 0..0.5 was expected"
            )

    @classmethod
    def read(cls, path: Path) -> DatasetInfo:
        """The file's content; the defaults where there is no file. Other keys are left alone.

        Raises:
            DataError: the file is no JSON object, or a value is of the wrong type or range.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{path} is no JSON ({error}): mend or remove it") from error
        if not isinstance(raw, dict):
            raise DataError(f"{path} holds no JSON object: mend or remove it")
        for key in ("name", "licence", "source"):
            if not isinstance(raw.get(key, ""), str):
                raise DataError(f"{path}: {key} is {raw[key]!r}, a text was expected: mend or remove it")
        share = raw.get("blur_degree_share", cls.blur_degree_share)
        if isinstance(share, bool) or not isinstance(share, int | float):
            raise DataError(
                f"{path}: blur_degree_share is {share!r}, a number was expected: mend or remove it"
            )
        try:
            return cls(raw.get("name", ""), raw.get("licence", ""), raw.get("source", ""), float(share))
        except ValueError as error:
            raise DataError(f"{path}: {error}: mend or remove it") from error

    def write(self, path: Path) -> None:
        """Write the fields that say something, as JSON."""
        fields = {key: value for key, value in asdict(self).items() if value != ""}
        with writing(path) as temporary:
            temporary.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

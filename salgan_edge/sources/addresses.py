"""Addresses of network streams, without what is secret in them."""

from __future__ import annotations

import re

__all__ = ["is_address", "scheme_of", "without_secrets"]

# Two letters or more: "C://" is a drive.
_SCHEME = re.compile(r"([a-z][a-z0-9+.\-]+)://", re.IGNORECASE)
# Cameras take passwords in queries and even in paths ("/user=admin_password=x_channel=1"). All
# up to the next separator is hidden: too much rather than too little.
_SECRET = re.compile(
    r"((?:pass(?:word|wd|phrase)?|pwd|user(?:name)?|usr|login|loginuse|loginpas|token|secret|key|auth|sig(?:nature)?|streamid)=)[^&/?#;]*",
    re.IGNORECASE,
)


def is_address(text: str) -> bool:
    """Whether a text has a scheme, as in ``rtsp://``."""
    return _SCHEME.match(text) is not None


def scheme_of(address: str) -> str:
    """``rtsp`` of ``RTSP://...``; empty without a scheme."""
    match = _SCHEME.match(address)
    return match.group(1).lower() if match else ""


def without_secrets(address: str) -> str:
    """An address fit for messages.

    >>> without_secrets("rtsp://me:secret@10.0.0.5/live?token=abc&channel=1")
    'rtsp://***@10.0.0.5/live?token=***&channel=1'
    """
    match = _SCHEME.match(address)
    start = match.end() if match else 0
    rest = address[start:]
    # The last @, because people put passwords with @ and / into addresses unescaped.
    _, at, host = rest.rpartition("@")
    shown = f"***@{host}" if at else rest
    return address[:start] + _SECRET.sub(r"\1***", shown)

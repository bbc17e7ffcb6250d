"""Instructions that the threads of a warp compute together."""

from __future__ import annotations

from typing import Any

TOGETHER: frozenset[str] = frozenset()
NAMES: dict[str, Any] = {}

"""Panels that are shown: where a cell is run again, what it showed before is closed.

Every panel keeps some hundred widgets, in the kernel and in the page, until it is closed.
"""

from typing import Any
from weakref import ref

_SHOWN: dict[str, list[tuple[str, Any]]] = {}  # cell -> the message that showed, and the panel


def close_replaced(panel: Any) -> None:
    """Close the panels that an earlier run of this cell showed, but this one."""
    cell, message = _place()
    if not cell:
        return
    kept = []
    for earlier, shown in _SHOWN.get(cell, []):
        other = shown()
        if other is None or other is panel:
            continue
        if earlier == message:
            kept.append((earlier, shown))
        else:
            other.close()
    _SHOWN[cell] = [*kept, (message, ref(panel))]


def _place() -> tuple[str, str]:
    """The cell that is run, and the message that runs it; "" where the front end does not say."""
    from IPython import get_ipython

    shell = get_ipython()
    parent: dict[str, Any] = getattr(shell, "get_parent", dict)() if shell else {}
    cell = parent.get("metadata", {}).get("cellId", "")
    return cell, parent.get("header", {}).get("msg_id", "")

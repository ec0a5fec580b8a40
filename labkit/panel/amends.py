"""Amends: what the front ends leave out for people who cannot see, put right by a line of script.

A slider's handle has no name, and the titles of folds are grey on grey. Where a front end runs no
script in an HTML widget, all is as before: beside each slider is a field that has its name.
"""

import html

import ipywidgets

_NOTHING = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
CLASS = "lk-panel"  # of a panel's widget


def named(label: str) -> ipywidgets.HTML:
    """To be put after a slider in the same box: gives its handle a name."""
    find = "this.closest('.widget-html').parentElement.querySelectorAll('[role=slider]')"
    script = f"{find}.forEach(e => e.setAttribute('aria-label', '{html.escape(label)}'))"
    picture = f'<img src="{_NOTHING}" alt="" width="0" height="0" onload="{script}">'
    return ipywidgets.HTML(picture, layout=ipywidgets.Layout(width="0", height="0", margin="0"))


def readable_folds() -> ipywidgets.HTML:
    """A style by which the titles of folds are as dark as text."""
    style = (
        f"<style>.{CLASS} .jupyter-widget-Collapse-header, .{CLASS} .p-Collapse-header, "
        f".{CLASS} .jupyter-widget-Collapse-header span "
        "{ color: var(--jp-content-font-color1, inherit); }</style>"
    )
    return ipywidgets.HTML(style, layout=ipywidgets.Layout(display="none"))

"""Drawn pictures of ideas, as SVG text; `tools.gallery` writes them to notebooks/ideas."""

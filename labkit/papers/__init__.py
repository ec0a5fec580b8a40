"""What the papers say, what was measured, and the verdict."""

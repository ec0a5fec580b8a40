"""Torture: whatever a class, a disk or a stranger does, no wrong number and no traceback.

python -m tests.torture [KIND ...] [--count N] [--seed S]

A module per kind, each with COUNT, how often by default, and `torture`, which gives its figures.
"""

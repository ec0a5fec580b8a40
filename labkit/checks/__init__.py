"""Checks for the exercises: each asks an answer on many inputs and names the property that fails.

from labkit.checks import check_rewind
check_rewind(rewind)          # a Verdict: prints what failed, on which input; true when right
check_rewind(rewind, hint=1)  # and where to look; hint=2 adds a way to do it
check_rewind(rewind).require()  # raises instead, for graded cells

The docstring of a check states its exercise. An answer that returns None or raises
NotImplementedError counts as not written yet. No check prints a solution.
"""

from labkit.checks.birds import check_draw_early, check_mask_distance, check_price
from labkit.checks.judging import NotWritten, Verdict, WrongAnswer
from labkit.checks.makings import check_collapsed, check_keep_signs, check_same_sign, check_snip
from labkit.checks.museum import check_audit, check_paired_interval, check_symptoms
from labkit.checks.pruning import (
    check_global_masks,
    check_idle,
    check_masked_step,
    check_prune_once,
    check_total_density,
)
from labkit.checks.stability import (
    check_copies,
    check_instability,
    check_interpolate,
    check_matching,
    check_resumed_rates,
    check_stable_from,
    check_when_tickets_match,
)
from labkit.checks.structure import (
    check_flops_of_narrow_layer,
    check_keep_filters,
    check_narrow,
    check_reversal,
    check_scratch_b_iterations,
)
from labkit.checks.tickets import (
    check_controls,
    check_early_stop,
    check_reinitialise,
    check_rewind,
)
from labkit.checks.welcome import (
    check_article,
    check_density_after,
    check_experiment,
    check_papers,
)

__all__ = [
    "NotWritten",
    "Verdict",
    "WrongAnswer",
    "check_article",
    "check_audit",
    "check_collapsed",
    "check_controls",
    "check_copies",
    "check_density_after",
    "check_draw_early",
    "check_early_stop",
    "check_experiment",
    "check_flops_of_narrow_layer",
    "check_global_masks",
    "check_idle",
    "check_instability",
    "check_interpolate",
    "check_keep_filters",
    "check_keep_signs",
    "check_mask_distance",
    "check_masked_step",
    "check_matching",
    "check_narrow",
    "check_paired_interval",
    "check_papers",
    "check_price",
    "check_prune_once",
    "check_reinitialise",
    "check_resumed_rates",
    "check_reversal",
    "check_rewind",
    "check_same_sign",
    "check_scratch_b_iterations",
    "check_snip",
    "check_stable_from",
    "check_symptoms",
    "check_total_density",
    "check_when_tickets_match",
]

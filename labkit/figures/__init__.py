"""Everything that draws: tables of an experiment in, pictures with their words and numbers out."""

from labkit.figures.arms import (
    accuracy_against_density,
    early_stop_against_density,
    learning_curves,
    summarise,
)
from labkit.figures.birds import mask_distance_map
from labkit.figures.comparisons import compare_treatments, difference_by_learning_rate
from labkit.figures.costs import cost_of_tickets, does_it_pay
from labkit.figures.layers import kept_per_layer
from labkit.figures.leads import difference_by_density, difference_by_size
from labkit.figures.lines import barrier, error_along_line, error_map
from labkit.figures.maps import pixel_map, weight_histogram
from labkit.figures.matching import (
    difference_by_rewind,
    matching_by_stability,
    phase_diagram,
    phases,
)
from labkit.figures.origins import sanity_checks
from labkit.figures.picture import Picture
from labkit.figures.shifts import forest_of_shifts
from labkit.figures.stability import contradiction_map, instability_against_rewind

__all__ = [
    "Picture",
    "accuracy_against_density",
    "barrier",
    "compare_treatments",
    "contradiction_map",
    "cost_of_tickets",
    "difference_by_density",
    "difference_by_learning_rate",
    "difference_by_rewind",
    "difference_by_size",
    "does_it_pay",
    "early_stop_against_density",
    "error_along_line",
    "error_map",
    "forest_of_shifts",
    "instability_against_rewind",
    "kept_per_layer",
    "learning_curves",
    "mask_distance_map",
    "matching_by_stability",
    "phase_diagram",
    "phases",
    "pixel_map",
    "sanity_checks",
    "summarise",
    "weight_histogram",
]

# The face of the lab: every public name, and its home. The one list; `__init__.py` reads it.

from .base.places import DataError as DataError
from .base.store import (
    Store as Store,
    StoreError as StoreError,
)
from .engine.connectivity import (
    ErrorPath as ErrorPath,
    Instability as Instability,
    error_along as error_along,
    error_surface as error_surface,
    instability as instability,
    interpolate as interpolate,
)
from .engine.data import (
    Data as Data,
    Split as Split,
    load as load,
)
from .engine.earlybird import (
    early_bird as early_bird,
    follow_channels as follow_channels,
    mask_distances as mask_distances,
)
from .engine.narrowing import (
    narrow as narrow,
    widen_state as widen_state,
)
from .engine.networks import (
    Masks as Masks,
    Population as Population,
    State as State,
    build as build,
    stack as stack,
)
from .engine.optimizers import (
    Moments as Moments,
)
from .engine.pruning import (
    Pruning as Pruning,
    apply_masks as apply_masks,
    curvature as curvature,
    density as density,
    flops as flops,
    full_masks as full_masks,
    prune as prune,
    random_masks as random_masks,
    remove_lowest as remove_lowest,
    shuffle_layers as shuffle_layers,
)
from .engine.saliency import (
    gates as gates,
    grasp as grasp,
    snip as snip,
    synflow as synflow,
)
from .engine.supermasks import (
    learn_masks as learn_masks,
)
from .engine.training import (
    Recipe as Recipe,
    data_order as data_order,
    evaluate_on as evaluate_on,
    flip_and_crop as flip_and_crop,
    generator as generator,
    train as train,
)
from .experiments.experiment import (
    Experiment as Experiment,
)
from .experiments.presets import (
    preset as preset,
    study as study,
)
from .experiments.progress import (
    watch as watch,
)
from .experiments.results import (
    Tables as Tables,
    tables as tables,
)
from .experiments.running import (
    Evaluated as Evaluated,
    Finished as Finished,
    Progress as Progress,
    run as run,
)
from .experiments.statistics import interval as interval
from .experiments.task import Task as Task
from .experiments.treatments import (
    TREATMENTS as TREATMENTS,
    Treatment as Treatment,
)
from .figures.ideas import idea as idea
from .figures.picture import Picture as Picture
from .figures.shifts import Shift as Shift
from .panel.explore import (
    explore as explore,
)
from .panel.guess import (
    Guess as Guess,
    guess as guess,
    read_guesses as read_guesses,
    with_guess as with_guess,
)
from .panel.panel import (
    Panel as Panel,
)
from .panel.switches import (
    Switchboard as Switchboard,
)
from .papers.claims import claims_table as claims_table

__version__: str

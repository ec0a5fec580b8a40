"""What is learned by what, and how; and what of a setting addresses its results."""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any

from labkit.base.validation import choice, instance, keep, whole
from labkit.engine import folders
from labkit.engine.data import FOLDER, NORMALISATIONS, Data, load, validate_name
from labkit.engine.networks import validate_network
from labkit.engine.training import Recipe


@dataclass(frozen=True)
class Task:
    """What is learned by what, and how: a data set, a network and a recipe.

    examples, image_size, normalisation, validation: see `labkit.engine.data.load`. Without
    validation images the early stop is the last iteration.
    content: the digest that own images must have; None means whatever is in their folder when the
    task is run. It addresses their results, wherever the folder is.
    """

    dataset: str = "mnist"
    network: str = "lenet-300-100"
    recipe: Recipe = field(default_factory=Recipe)
    examples: int | None = None
    image_size: int | None = None
    normalisation: str = "unit"
    validation: int = 5_000
    content: str | None = None

    def __post_init__(self) -> None:
        validate_name(self.dataset)
        validate_network(self.network)
        instance("task.recipe", self.recipe, Recipe)
        choice("task.normalisation", self.normalisation, NORMALISATIONS)
        keep(
            self,
            examples=whole("task.examples", self.examples, 1, optional=True),
            image_size=whole("task.image_size", self.image_size, 1, optional=True),
            validation=whole("task.validation", self.validation, 0),
        )
        if self.content is not None:
            instance("task.content", self.content, str)
            if not self.dataset.startswith(FOLDER):
                raise ValueError(
                    f"task.content must be None for {self.dataset}, not {self.content!r}: only the "
                    f"images of {FOLDER}PATH can change"
                )

    def pinned(self) -> "Task":
        """The same task for no other images than those that its folder holds now.

        Raises DataError for a folder that cannot be used; other data are what their names say.
        """
        if self.content is not None or not self.dataset.startswith(FOLDER):
            return self
        return replace(self, content=folders.digest(self.dataset.removeprefix(FOLDER)))

    def lineage(self) -> dict[str, Any]:
        """What determines its results, for their address: own images count, not their place."""
        own = settings(self.pinned())
        return own | {"dataset": FOLDER} if "content" in own else own

    def data(self) -> Data:
        """The task's data set, loaded."""
        return load(
            self.dataset,
            normalisation=self.normalisation,
            validation=self.validation,
            examples=self.examples,
            image_size=self.image_size,
            content=self.content,
        )


def settings(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, dataclasses inside likewise.

    This is what results are addressed by, so a field that is added later, with a default that
    means what was done before, leaves the addresses of all results as they are.
    """
    found = {}
    for item in fields(value):
        own = getattr(value, item.name)
        if is_dataclass(own):
            if inner := settings(own):
                found[item.name] = inner
        elif item.default is MISSING or own != item.default:
            found[item.name] = own
    return found

"""How an answer is judged: asked on many inputs, and told which property failed on which of them.

An examination asks the student's function (`ask`) and compares what comes back with the reference;
the first `Fault` that shows ends it. Faults are named: they are the mistakes that students, and
published code, typically make.
"""

import copy
import html
import io
import linecache
import math
import textwrap
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import wraps
from itertools import product
from typing import Any, NoReturn, Protocol, cast

import torch
from torch import Tensor, nn

from labkit.base.validation import whole

RIGHT, WRONG, UNWRITTEN = "right", "wrong", "not written yet"
# A mark and a colour for each; white letters are readable on the colours, on any page.
MARKS = {RIGHT: ("✓", "#00704a"), WRONG: ("✗", "#b3261e"), UNWRITTEN: ("○", "#5f6368")}
MOST_SAID = 500  # characters of warnings that a verdict repeats
SMALL = 12  # a tensor of at most this many numbers is printed in full


@dataclass(frozen=True)
class Verdict:
    """What a check found. It is true when the answer is right, and prints as a mark and its text.

    state: "right", "wrong" or "not written yet". fault: the name of the mistake, or "".
    """

    exercise: str
    state: str
    text: str
    fault: str = ""

    def __bool__(self) -> bool:
        return self.state == RIGHT

    def __repr__(self) -> str:
        return f"{MARKS[self.state][0]} {self.text}"

    def _repr_html_(self) -> str:
        """The same words with a coloured mark; letters keep the colour of the page's theme."""
        mark, colour = MARKS[self.state]
        return (
            f'<div role="status" style="border-left:4px solid {colour};padding:0.2em 0.8em">'
            '<pre style="white-space:pre-wrap;word-break:normal;margin:0;color:inherit;'
            'background:transparent">'
            f'<b style="background:{colour};color:#fff;padding:0 0.4em">{mark}</b> '
            f"{html.escape(self.text)}</pre></div>"
        )

    def require(self) -> "Verdict":
        """The verdict itself if the answer is right, for graded cells: else raises WrongAnswer, or
        NotWritten, which is a NotImplementedError.
        """
        if self.state == UNWRITTEN:
            raise NotWritten(repr(self))
        if self.state == WRONG:
            raise WrongAnswer(repr(self))
        return self


class _Readable(Exception):
    """Shown in a notebook as its sentence alone: the traceback would be that of the check."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class WrongAnswer(_Readable, AssertionError):
    """An answer that fails its check."""


class NotWritten(_Readable, NotImplementedError):
    """An exercise that waits for its answer."""


@dataclass(frozen=True)
class Fault:
    """A mistake: its name, what it does (a sentence about the answer), and where to look."""

    name: str
    says: str
    look: str


RAISES = Fault("raises", "it raised an exception", "Read the exception; try this input by hand.")
CHANGES = Fault(
    "argument changed",
    "it changed one of its arguments, which are needed again later",
    "Work on a copy: which of your lines ends in an underscore, or assigns to a part of something?",
)
UNUSABLE = Fault(
    "another kind of answer",
    "what came back is not the kind of thing that was asked for",
    "Compare type, shape and dtype with what the exercise asks for.",
)
DIFFERS = Fault(
    "another value",
    "the value is not the one that was asked for",
    "Work this input out by hand.",
)


class Unwritten(Exception):
    """The answer raised NotImplementedError or returned nothing."""


class Failed(Exception):
    """A fault that an answer showed on one input."""

    def __init__(self, fault: Fault, case: str, expected: Any, found: Any) -> None:
        super().__init__(fault.name)
        self.fault, self.case, self.expected, self.found = fault, case, expected, found


Mistakes = Mapping[Fault, Callable[..., Any]]
"""Typical mistakes as functions, which are called as the student's is."""


class Check(Protocol):
    """check(answer, hint=0): answer is the student's function or value; hint 0 tells what failed on
    which input, what was expected and what came back; 1 adds where to look; 2 adds a way to do it.

    mistakes: the typical ones that are told by what they return; a check without such functions
    looks at a property of the answer instead.
    """

    __name__: str
    __doc__: str | None
    mistakes: "Mistakes"

    def __call__(self, answer: Any, hint: int = 0) -> Verdict: ...


def exercise(
    right: str, way: str, mistakes: Mistakes | None = None
) -> Callable[[Callable[[Any], None]], Check]:
    """Makes a check of an examination, a function that raises Failed or Unwritten, or is content.

    right: what a right answer has shown. way: the technique in a sentence, for hint 2. mistakes:
    what the check carries for its tests, and for a lecturer.
    """

    def decorate(examine: Callable[[Any], None]) -> Check:
        name = examine.__name__.removeprefix("check_")

        @wraps(examine)
        def check(answer: Any, hint: int = 0) -> Verdict:
            whole("hint", hint, 0, 2)
            said = io.StringIO()  # nbgrader takes a word on stderr, a warning say, for a failure
            with redirect_stderr(said):
                verdict = judged(answer, hint)
            words = said.getvalue().strip()
            if not words:
                return verdict
            words = words if len(words) <= MOST_SAID else words[:MOST_SAID] + " ..."
            told = textwrap.indent(words, "    ")
            return replace(verdict, text=f"{verdict.text}\n  said besides, no fault:\n{told}")

        def judged(answer: Any, hint: int) -> Verdict:
            try:
                examine(answer)
            except Unwritten:
                waits = "(If it is: does it end with `return`?)" if callable(answer) else "Choose!"
                text = f"{name} is not written yet. {waits}"
                return Verdict(name, UNWRITTEN, text)
            except Failed as failed:
                return Verdict(name, WRONG, _tell(name, failed, hint, way), failed.fault.name)
            except Exception as error:  # from comparing something that nobody thought of
                odd = Failed(UNUSABLE, "what came back", "as the exercise says", _error(error))
                return Verdict(name, WRONG, _tell(name, odd, hint, way), UNUSABLE.name)
            return Verdict(name, RIGHT, f"{name} is right: {right}")

        del check.__wrapped__  # help() should show `hint`
        check.mistakes = mistakes or {}  # type: ignore[attr-defined]
        return cast(Check, check)

    return decorate


def ask(answer: Any, case: str, *arguments: Any) -> Any:
    """What the answer makes of copies of the arguments, which it must leave as they are."""
    copies = copy.deepcopy(arguments)
    result = call(answer, case, *copies)
    for before, after in zip(arguments, copies, strict=True):
        if not isinstance(before, torch.Generator) and not same(before, after):
            raise Failed(CHANGES, case, before, after)
    return result


def call(answer: Any, case: str, *arguments: Any) -> Any:
    """What the answer makes of these very arguments, which it may change."""
    if not callable(answer):
        raise Failed(UNUSABLE, case, "a function", answer)
    try:
        result = answer(*arguments)
    except NotImplementedError as error:
        raise Unwritten from error
    except Exception as error:
        raise Failed(RAISES, case, "an answer", _error(error) + _place(error, answer)) from error
    if result is None:
        raise Unwritten
    return result


def fail(fault: Fault, case: str, expected: Any, found: Any) -> NoReturn:
    """End the examination with this fault."""
    raise Failed(fault, case, expected, found)


def compare(case: str, found: Any, expected: Any, traps: Mapping[Fault, Any] | None = None) -> None:
    """Fail where two values differ, with the fault whose value it is.

    traps: the values that typical mistakes give here; another wrong value is DIFFERS.
    """
    if same(found, expected):
        return
    for fault, value in (traps or {}).items():
        if same(found, value) and not same(value, expected):
            fail(fault, case, expected, found)
    fail(DIFFERS if _alike(found, expected) else UNUSABLE, case, expected, found)


@dataclass(frozen=True)
class Question:
    """One input: what is asked in words, the arguments, and the right answer."""

    case: str
    arguments: tuple[Any, ...]
    right: Any


def compare_all(
    answer: Any,
    questions: Iterable[Question],
    mistakes: Mistakes,
    read: Callable[[Any], Any] = lambda found: found,
) -> None:
    """Fail at the first wrong answer, with the mistake that explains the answers to all questions.

    read: brings what came back into the form of the right answers.
    """
    wrong: tuple[Question, Any] | None = None
    suspects = list(mistakes)
    for question in questions:
        try:
            found = read(ask(answer, question.case, *question.arguments))
        except Failed:
            if wrong is None:
                raise
            break
        if wrong is None and not same(found, question.right):
            wrong = question, found
        traps = {fault: read(mistakes[fault](*question.arguments)) for fault in suspects}
        suspects = [fault for fault in suspects if same(found, traps[fault])]
    if wrong is not None:
        question, found = wrong
        compare(question.case, found, question.right, dict.fromkeys(suspects, found))


def check_choices(answers: object, right: Mapping[str, str], because: Mapping[str, str]) -> None:
    """Examine a dictionary of chosen words, one per question.

    right: question -> word; because: word -> what choosing it would mean.
    """
    if callable(answers):
        answers = ask(answers, "your answers")
    if not isinstance(answers, Mapping):
        fail(UNUSABLE, "your answers", f"a dictionary with {', '.join(right)}", answers)
    if not any(answers.get(question) for question in right):
        raise Unwritten
    for question in right:
        answer = answers.get(question, "")
        if answer not in because:
            words = f"one of {', '.join(because)}"
            fail(Fault("no such choice", "that is none of the choices", "Check the spelling."),
                 question, words, repr(answer))  # fmt: skip
        if answer != right[question]:
            fault = Fault(
                f"{question}: {answer}", f"for {question}, {answer} is not it", because[answer]
            )
            fail(fault, question, "another choice", describe(answer))


def mask_like(case: str, found: Any, shape: torch.Size) -> Tensor:
    """The answer if it is a bool tensor of this shape; fails otherwise."""
    if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != shape:
        fail(UNUSABLE, case, f"a bool tensor of shape {tuple(shape)}", found)
    return found


def state_like(case: str, found: Any, expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The answer if it is a dictionary of tensors with these names and shapes; fails otherwise."""
    if not isinstance(found, Mapping) or set(found) != set(expected):
        names = list(found) if isinstance(found, Mapping) else found
        fail(UNUSABLE, case, f"a dictionary with the names {', '.join(expected)}", names)
    for name, tensor in expected.items():
        if not isinstance(found[name], Tensor) or found[name].shape != tensor.shape:
            fail(UNUSABLE, f"{case}, {name}", f"a tensor {tuple(tensor.shape)}", found[name])
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, numbers to within rounding."""
    if isinstance(one, nn.Module) and isinstance(other, nn.Module):
        return same(one.state_dict(), other.state_dict())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, Tensor) and one.ndim == 0:
        one = one.item()
    if isinstance(other, Tensor) and other.ndim == 0:
        other = other.item()
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or (one.dtype == torch.bool) != (other.dtype == torch.bool):
            return False
        return torch.allclose(one.double(), other.double(), rtol=1e-5, atol=1e-6, equal_nan=True)
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    if _number(one) and _number(other):
        return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6) or (
            math.isnan(one) and math.isnan(other)
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _alike(found: Any, expected: Any) -> bool:
    if isinstance(expected, Tensor) and expected.ndim:
        return isinstance(found, Tensor) and found.shape == expected.shape
    if _number(expected):
        return _number(found) or (isinstance(found, Tensor) and found.ndim == 0)
    return isinstance(found, type(expected))


def _tell(name: str, failed: Failed, hint: int, way: str) -> str:
    fault = failed.fault
    expected, found = _tell_apart(failed.expected, failed.found)
    lines = [
        f"{name} is not right yet: {fault.says} ({fault.name}).",
        f"  input      {failed.case}",
        f"  expected   {expected}",
        f"  came back  {found}",
    ]
    if hint >= 1:
        lines.append(f"  hint 1     {fault.look}")
    if hint >= 2:
        lines.append(f"  hint 2     {way}")
    if hint < 2:
        lines.append(f"  (hint={hint + 1} says more)")
    return "\n".join(lines)


def _tell_apart(expected: Any, found: Any) -> tuple[str, str]:
    """Both in words that differ: those of the first part that does, where a line shows no more."""
    words = describe(expected), describe(found)
    if words[0] != words[1]:
        return words
    for place, one in _parts(expected).items():
        other = _parts(found).get(place)
        if not same(one, other):
            inner = _tell_apart(one, other)
            return f"{words[0]}; {place} is {inner[0]}", f"{words[1]}; {place} is {inner[1]}"
    return f"{words[0]} ({_kind(expected)})", f"{words[1]} ({_kind(found)})"


def _parts(value: Any) -> dict[str, Any]:
    """What a value consists of, by its place."""
    if isinstance(value, nn.Module):
        return dict(value.state_dict())
    if isinstance(value, Mapping):
        return {str(key): own for key, own in value.items()}
    if isinstance(value, list | tuple):
        return {f"part {number}": own for number, own in enumerate(value)}
    if isinstance(value, Tensor) and value.ndim:
        return {str(list(at)): value[at].item() for at in product(*map(range, value.shape))}
    return {}


def _kind(value: Any) -> str:
    return str(value.dtype if isinstance(value, Tensor) else type(value).__name__)


def describe(value: Any) -> str:
    """A value in a line: small tensors in full, large ones by their shape."""
    if isinstance(value, Tensor):
        if value.numel() <= SMALL:
            return str(_rounded(value.tolist()))
        count = f", {int(value.sum())} true" if value.dtype == torch.bool else ""
        return f"a tensor of shape {tuple(value.shape)}{count}"
    if isinstance(value, nn.Module):
        return f"a {type(value).__name__}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {describe(own)}" for key, own in list(value.items())[:4])
    if isinstance(value, list | tuple):
        if any(isinstance(own, Tensor) for own in value):
            return ", ".join(map(describe, value))
        return str(_rounded(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def _error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _place(error: Exception, answer: Any) -> str:
    """The line of the answer's own code that raised, and what stands there; "" if it raised none.

    Frames below it, inside torch, tell a student less than the own line that led there.
    """
    file = getattr(getattr(answer, "__code__", None), "co_filename", None)
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if not own:
        return ""
    number = own[-1].lineno or 0
    source = linecache.getline(own[-1].filename, number).strip()
    return f", in line {number} of its cell" + (f": {source}" if source else "")

"""Reads the operators that compare one attribute with constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from huidu import history
from huidu.engine.claims import Contains, Hysteresis, Is, Leaf, OneOf, Range, StartsWith, Within
from huidu.engine.constants import constant, shown
from huidu.errors import RuleError
from huidu.model import Attribute, AttributeType

if TYPE_CHECKING:
    from huidu.engine.rules import Reader

MAX_LIST: Final = 10_000
"""Most values in one list of a rule; longer lists are user lists."""

_ORDERED: Final = (AttributeType.INTEGER, AttributeType.NUMBER, AttributeType.DATE)
_EQUAL: Final = (*_ORDERED, AttributeType.STRING, AttributeType.REGION, AttributeType.BOOLEAN)
_LISTED: Final = (*_ORDERED, AttributeType.STRING, AttributeType.REGION)
_HOLDING: Final = (AttributeType.STRINGS, AttributeType.STRING)
_FLIPPED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def read(operator: Any, arguments: Any, path: str, reader: Reader) -> Leaf:
    """One claim about one attribute.

    Raises:
        RuleError: no such operator, wrong arguments, or an attribute the operator is not for.
    """
    if operator not in _OPERATORS:
        raise RuleError(
            f"expected one of the operators {', '.join(OPERATORS)}; got {shown(operator)}",
            path=path,
        )
    return _OPERATORS[operator](operator, arguments, path, reader)


def _flag(operator: str, arguments: Any, path: str, reader: Reader) -> Leaf:
    attribute = reader.attribute({"var": arguments}, path)
    path = _typed(attribute, (AttributeType.BOOLEAN,), operator, path)
    return Is(attribute=attribute, operator="==", wanted=True, value=True)


def _comparison(operator: str, arguments: Any, path: str, reader: Reader) -> Leaf:
    operands = _list_of(arguments, (2, 3) if operator in ("<", "<=") else (2,), operator, path)
    if len(operands) == 3:
        return _chain(operator, operands, path, reader)
    if not _names_attribute(operands[0]):
        operands, operator = operands[::-1], _FLIPPED[operator]
    attribute, wanted = _attribute_first(operands, operator, path, reader)
    if operator in ("==", "!="):
        path = _typed(attribute, _EQUAL, operator, path)
        return _equal(attribute, operator, wanted, constant(attribute, wanted, path))
    path = _typed(attribute, _ORDERED, operator, path)
    bound = constant(attribute, wanted, path)
    is_open = operator in ("<", ">")
    if operator in (">", ">="):
        return _range(attribute, operator, wanted, low=bound, low_open=is_open)
    return _range(attribute, operator, wanted, high=bound, high_open=is_open)


def _chain(operator: str, operands: list[Any], path: str, reader: Reader) -> Leaf:
    low, middle, high = operands
    if not _names_attribute(middle) or _names_attribute(low) or _names_attribute(high):
        raise RuleError(
            f'expected the attribute between two constants under "{operator}"', path=path
        )
    attribute = reader.attribute(middle, path)
    path = _typed(attribute, _ORDERED, operator, path)
    return _range(
        attribute,
        "between" if operator == "<=" else "<",
        [low, high],
        low=constant(attribute, low, path),
        high=constant(attribute, high, path),
        low_open=operator == "<",
        high_open=operator == "<",
    )


def _between(operator: str, arguments: Any, path: str, reader: Reader) -> Leaf:
    operands = _list_of(arguments, (3,), operator, path)
    attribute, low = _attribute_first(operands[:2], operator, path, reader)
    path = _typed(attribute, _ORDERED, operator, path)
    low, high = constant(attribute, low, path), constant(attribute, operands[2], path)
    if low > high:
        raise RuleError(
            f"expected the lower end first, got {shown(operands[1])} and {shown(operands[2])}",
            path=path,
        )
    return _range(attribute, operator, operands[1:], low=low, high=high)


def _hysteresis(operator: str, arguments: Any, path: str, reader: Reader) -> Leaf:
    operands = _list_of(arguments, (3,), operator, path)
    attribute, enter = _attribute_first(operands[:2], operator, path, reader)
    path = f"{path}.{attribute.name}"
    if attribute.name != history.ATTRIBUTE or attribute.type is not AttributeType.INTEGER:
        raise RuleError(
            f"{operator} is for {history.ATTRIBUTE}, the figure whose past days are known; got "
            f"{shown(attribute.name)}",
            path=path,
        )
    enter, leave = constant(attribute, enter, path), constant(attribute, operands[2], path)
    if leave < 1:
        raise RuleError(
            f"expected a leave line of 1 or more, below which users can fall; got {leave}",
            path=path,
        )
    if enter <= leave:
        raise RuleError(
            f"expected an enter line above the leave line, got enter {enter} and leave {leave}",
            path=path,
        )
    return Hysteresis(
        attribute=attribute, operator=operator, wanted=operands[1:], enter=enter, leave=leave
    )


def _in(operator: str, arguments: Any, path: str, reader: Reader) -> Leaf:
    operands = _list_of(arguments, (2,), operator, path)
    if not _names_attribute(operands[0]) and _names_attribute(operands[1]):
        attribute = reader.attribute(operands[1], path)
        path = _typed(attribute, _HOLDING, f"{operator} (a value in an attribute)", path)
        needle = constant(attribute, operands[0], path)
        return Contains(attribute=attribute, operator="contains", wanted=needle, needle=needle)
    attribute, wanted = _attribute_first(operands, operator, path, reader)
    path = _typed(attribute, _LISTED, operator, path)
    return _one_of(attribute, operator, wanted, _constants(attribute, wanted, path))


def _starts_with(operator: str, arguments: Any, path: str, reader: Reader) -> Leaf:
    operands = _list_of(arguments, (2,), operator, path)
    attribute, prefix = _attribute_first(operands, operator, path, reader)
    path = _typed(attribute, (AttributeType.STRING,), operator, path)
    prefix = constant(attribute, prefix, path)
    return StartsWith(attribute=attribute, operator=operator, wanted=prefix, prefix=prefix)


def _within(operator: str, arguments: Any, path: str, reader: Reader) -> Leaf:
    operands = _list_of(arguments, (2,), operator, path)
    attribute, wanted = _attribute_first(operands, operator, path, reader)
    path = _typed(attribute, (AttributeType.REGION,), operator, path)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    table = reader.table(_constants(attribute, wanted, path))
    return Within(attribute=attribute, operator=operator, wanted=wanted, table=table)


def _sem_ver(operator: str, arguments: Any, path: str, reader: Reader) -> Leaf:
    operands = _list_of(arguments, (3,), operator, path)
    attribute, how = _attribute_first(operands[:2], operator, path, reader)
    path = _typed(attribute, (AttributeType.SEM_VER,), operator, path)
    version = constant(attribute, operands[2], path)
    wanted, told = operands[2], f"{operator} {how}"
    match how:
        case "=" | "==":
            return _one_of(attribute, told, wanted, frozenset([version]))
        case "!=":
            return _one_of(attribute, told, wanted, frozenset([version]), negated=True)
        case ">" | ">=":
            return _range(attribute, told, wanted, low=version, low_open=how == ">")
        case "<" | "<=":
            return _range(attribute, told, wanted, high=version, high_open=how == "<")
        case "^":
            kept = 1
        case "~":
            kept = 2
        case _:
            raise RuleError(f"expected one of = != < <= > >= ~ ^, got {shown(how)}", path=path)
    # A shorter tuple comes before all that begin with it, so pre-releases of the first are in.
    first = version[:kept]
    after = (*first[:-1], first[-1] + 1)
    return _range(attribute, told, wanted, low=first, high=after, high_open=True)


def _equal(attribute: Attribute, operator: str, wanted: Any, form: Any) -> Leaf:
    if attribute.type is AttributeType.BOOLEAN:
        value = form is (operator == "==")
        return Is(attribute=attribute, operator=operator, wanted=wanted, value=value)
    return _one_of(attribute, operator, wanted, frozenset([form]), negated=operator == "!=")


def _one_of(
    attribute: Attribute,
    operator: str,
    wanted: Any,
    members: frozenset[Any],
    *,
    negated: bool = False,
) -> Leaf:
    return OneOf(
        attribute=attribute, operator=operator, wanted=wanted, members=members, negated=negated
    )


def _range(
    attribute: Attribute,
    operator: str,
    wanted: Any,
    *,
    low: Any = None,
    high: Any = None,
    low_open: bool = False,
    high_open: bool = False,
) -> Leaf:
    if attribute.type in (AttributeType.INTEGER, AttributeType.DATE):
        # Among whole numbers an open bound is the closed bound next to it.
        low, low_open = (low + 1 if low_open else low), False
        high, high_open = (high - 1 if high_open else high), False
    return Range(
        attribute=attribute,
        operator=operator,
        wanted=wanted,
        low=low,
        high=high,
        low_open=low_open,
        high_open=high_open,
    )


def _constants(attribute: Attribute, wanted: Any, path: str) -> frozenset[Any]:
    if not isinstance(wanted, list) or not 0 < len(wanted) <= MAX_LIST:
        raise RuleError(
            f"expected a list of 1 to {MAX_LIST} values, got {shown(wanted)}", path=path
        )
    return frozenset(
        constant(attribute, each, f"{path}[{index}]") for index, each in enumerate(wanted)
    )


def _list_of(arguments: Any, lengths: tuple[int, ...], operator: str, path: str) -> list[Any]:
    if not isinstance(arguments, list) or len(arguments) not in lengths:
        wanted = " or ".join(map(str, lengths))
        raise RuleError(
            f'expected a list of {wanted} under "{operator}", got {shown(arguments)}', path=path
        )
    return arguments


def _names_attribute(operand: Any) -> bool:
    return isinstance(operand, dict) and len(operand) == 1 and "var" in operand


def _attribute_first(
    operands: list[Any], operator: str, path: str, reader: Reader
) -> tuple[Attribute, Any]:
    first, second = operands
    if not _names_attribute(first):
        raise RuleError(
            f'expected {{"var": name}} under "{operator}", got {shown(first)}', path=path
        )
    if _names_attribute(second):
        raise RuleError(
            f'expected a constant to compare with under "{operator}", got {shown(second)}',
            path=path,
        )
    return reader.attribute(first, path), second


def _typed(attribute: Attribute, types: tuple[AttributeType, ...], operator: str, path: str) -> str:
    """The path of the attribute, once its type is one the operator is for."""
    path = f"{path}.{attribute.name}"
    if attribute.type not in types:
        raise RuleError(
            f"{operator} is for attributes of type {', '.join(types)}; this one is "
            f"{attribute.type}",
            path=path,
        )
    return path


_OPERATORS: Final[dict[Any, Callable[[str, Any, str, Reader], Leaf]]] = {
    "==": _comparison,
    "!=": _comparison,
    "<": _comparison,
    "<=": _comparison,
    ">": _comparison,
    ">=": _comparison,
    "between": _between,
    "hysteresis": _hysteresis,
    "in": _in,
    "starts_with": _starts_with,
    "sem_ver": _sem_ver,
    "within": _within,
    "var": _flag,
}

OPERATORS: Final = ("and", "or", "!", "cohort", *_OPERATORS)
"""Every operator a rule may use."""

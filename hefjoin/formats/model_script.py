"""Hailo model scripts (`.alls`): read, print, bring under a scope, merge.

The emulator obeys a script and the quantize stage assembles one, so both read it here. The one rule: what is not
known is refused, with its place and the nearest known name. A lenient reader would let a misspelt command pass
here and fail hours later in the vendor's compiler.

The grammar is `model_script.lark`, the commands are the table in `model_script_commands.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from hefjoin.errors import Problem, SpecError
from hefjoin.formats.model_script_commands import COMMANDS, LAYER_KEYWORDS, NOT_LAYERS, Stage

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from lark.exceptions import UnexpectedInput, UnexpectedToken


class Word(str):
    """A bare word: `enabled`, `a8_w8`, `conv1`, `scope/conv1`. A quoted string is a plain `str`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Word({super().__repr__()})"


class Glob(str):
    """A pattern over layer names, without its braces: `conv*`, `scope/ew_add*`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Glob({super().__repr__()})"


QUOTE_LIMIT = 60
"""Characters of a name that a message shows."""

Scalar = int | float | str
"""A number, True, False, a quoted string, a `Word` or a `Glob`."""
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `targets = owner.name(*args, **kwargs)`. Where it stood does not count in comparisons."""

    targets: tuple[str, ...]
    name: str
    args: tuple[Value, ...] = ()
    kwargs: tuple[tuple[str, Value], ...] = ()
    owner: str = ""
    """`context_0` in `context_0.place(...)`."""
    source: str = field(default="", compare=False, repr=False)
    line: int = field(default=0, compare=False, repr=False)
    column: int = field(default=0, compare=False, repr=False)

    @property
    def where(self) -> str:
        """`<source>:<line>:<column>`, both counted from 1."""
        return f"{self.source}:{self.line}:{self.column}"

    def get(self, keyword: str, default: Value | None = None) -> Value | None:
        """Return the value of a keyword argument."""
        return dict(self.kwargs).get(keyword, default)

    def __str__(self) -> str:
        left = f"{', '.join(self.targets)} = " if self.targets else ""
        owner = f"{self.owner}." if self.owner else ""
        arguments = [_text(value) for value in self.args] + [f"{key}={_text(v)}" for key, v in self.kwargs]
        return f"{left}{owner}{self.name}({', '.join(arguments)})"


@dataclass(frozen=True, slots=True)
class Script:
    """The commands of a model script, in order; `str` gives text that parses to an equal script."""

    commands: tuple[Command, ...] = ()

    def stage(self, name: Stage) -> Script:
        """Return the commands that act in one stage; those that belong to any stage are in each."""
        return Script(tuple(c for c in self.commands if COMMANDS[c.name].stage in (name, "any")))

    def __str__(self) -> str:
        return "".join(f"{command}\n" for command in self.commands)


def parse(text: str, source: str = "model script") -> Script:
    """Read a model script.

    Args:
        text: The script.
        source: What to call it in messages: a file name, `models[0].script`.

    Raises:
        SpecError: A syntax error, with the line and a marker; or every unknown command, unknown or repeated
            keyword, and missing or surplus left-hand side.
    """
    from lark.exceptions import UnexpectedInput

    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise SpecError([_syntax_problem(error, text, source)], where=source) from error
    reader = _Reader(source)
    nodes: list[Any] = tree.children
    commands = tuple(map(reader.command, nodes))
    if reader.problems:
        raise SpecError(reader.problems, where=source)
    return Script(commands)


def scoped(script: Script, scope: str, outputs: Sequence[str] = ()) -> Script:
    """Return the script with every layer name that has no scope put under `scope`, to be used on a joined network.

    Names that have a scope, words that are not layers, and commands that steer the whole network stay as they are.
    `change_output_activation(sigmoid)` means all outputs of the network, which after a join are also other models'.
    It becomes one command for each of `outputs`, the form with a layer being the documented one.

    Args:
        script: A script written for one model.
        scope: The model's scope in the joined network.
        outputs: The layers that feed the model's outputs, without scope.

    Raises:
        SpecError: Commands that cannot be brought under a scope: it is not known where their layers stand, or
            `outputs` is needed and empty.
    """
    problems: list[Problem] = []
    commands: list[Command] = []
    for command in script.commands:
        if COMMANDS[command.name].layers is None:
            problems.append(
                Problem(
                    command.where,
                    f"it is not known which arguments of `{command.name}` are layers; "
                    "move it to the script of the joined network and write its names with their scope",
                )
            )
        elif command.name == "change_output_activation" and len(command.args) == 1:
            if not outputs:
                problems.append(
                    Problem(
                        command.where,
                        f"`{command}` means all outputs of the joined network; "
                        "name the layer: change_output_activation(<layer>, <activation>)",
                    )
                )
            commands += [replace(command, args=(_under(scope, Word(o)), *command.args)) for o in outputs]
        else:
            commands.append(_scoped_command(command, scope))
    if problems:
        raise SpecError(problems, where=f"the model script of {scope}")
    return Script(tuple(commands))


def layers(command: Command) -> Iterator[Word | Glob]:
    """Yield the layers and patterns that a command's arguments name, as they stand there."""
    values = [*command.args[COMMANDS[command.name].layers or slice(0)]]
    values += [value for key, value in command.kwargs if key in LAYER_KEYWORDS]
    for value in values:
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, Word | Glob):
                yield item


def merge(scripts: Sequence[Script]) -> Script:
    """Return one script with the commands of all, in order; of equal commands the first stays.

    Raises:
        SpecError: Two commands set one thing to two values, such as two optimization levels; lists every such pair.
    """
    merged: dict[Command, None] = {}
    seen: dict[object, tuple[Value, Command]] = {}
    problems: list[Problem] = []
    for command in (command for script in scripts for command in script.commands):
        if command in merged:
            continue
        merged[command] = None
        subject = (command.owner, command.name, command.targets, command.args, command.get("layers"))
        for keyword, value in command.kwargs:
            first, other = seen.setdefault((subject, keyword), (value, command))
            if first != value:
                problems.append(
                    Problem(
                        command.where,
                        f"`{command.name}` sets {keyword}={_text(value)}, "
                        f"but {other.where} sets {keyword}={_text(first)} for the same network; keep one",
                    )
                )
    if problems:
        raise SpecError(problems, where="the model script of the joined network")
    return Script(tuple(merged))


def _text(value: Value) -> str:
    match value:
        case tuple():
            return f"[{', '.join(map(_text, value))}]"
        case Glob():
            return f"{{{value}}}"
        case Word():
            return str(value)
        case str():
            quote = "'" if '"' in value else '"'
            return f"{quote}{value}{quote}"
        case _:
            return repr(value)


def _scoped_command(command: Command, scope: str) -> Command:
    args = list(command.args)
    layers = COMMANDS[command.name].layers or slice(0)
    args[layers] = [_under(scope, value) for value in args[layers]]
    kwargs = [(key, _under(scope, v) if key in LAYER_KEYWORDS else v) for key, v in command.kwargs]
    targets = command.targets
    if command.name not in NOT_LAYERS:
        targets = tuple(str(_under(scope, Word(target))) for target in targets)
    return replace(command, targets=targets, args=tuple(args), kwargs=tuple(kwargs))


def _under(scope: str, value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(_scalar_under(scope, item) for item in value)
    return _scalar_under(scope, value)


def _scalar_under(scope: str, value: Scalar) -> Scalar:
    if isinstance(value, Word | Glob) and "/" not in value:
        return type(value)(f"{scope}/{value}")
    return value


class _LineEnds:
    """Drop line ends between brackets."""

    always_accept = ("_NEWLINE",)

    def process(self, stream: Iterable[Token]) -> Iterator[Token]:
        depth = 0
        for token in stream:
            depth += (token.type in ("LPAR", "LSQB")) - (token.type in ("RPAR", "RSQB"))
            if token.type != "_NEWLINE" or depth <= 0:
                yield token


@cache
def _parser() -> Lark:
    from lark import Lark

    grammar = (files("hefjoin.formats") / "model_script.lark").read_text(encoding="utf-8")
    line_ends: Any = _LineEnds()
    return Lark(grammar, parser="lalr", lexer="basic", postlex=line_ends, maybe_placeholders=True)


class _Reader:
    """Turns the tree into commands and gathers what is wrong with them."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def command(self, node: Tree[Token]) -> Command:
        children: list[Any] = node.children
        targets, owner, name, arguments = children
        args: list[Value] = []
        kwargs: dict[str, Value] = {}
        for argument in arguments.children:
            if getattr(argument, "data", None) == "keyword":
                key, value = argument.children
                if key in kwargs:
                    self.report(key, f"`{_short(name)}` is given {_short(key)} twice")
                kwargs[str(key)] = self.value(value)
            else:
                if kwargs:
                    self.report(name, f"`{_short(name)}` has a value after its keyword arguments; move it before them")
                args.append(self.value(argument))
        command = Command(
            targets=tuple(map(str, targets.children)) if targets else (),
            name=str(name),
            args=tuple(args),
            kwargs=tuple(kwargs.items()),
            owner=str(owner or ""),
            source=self.source,
            line=name.line,
            column=name.column,
        )
        self.check(name, command)
        return command

    def value(self, node: Any) -> Value:
        if getattr(node, "data", None) == "list":
            return tuple(map(self.scalar, node.children))
        return self.scalar(node)

    def scalar(self, token: Token) -> Scalar:
        match token.type:
            case "STRING":
                return token[1:-1]
            case "GLOB":
                return Glob(token[1:-1].strip())
            case "WORD":
                return {"True": True, "False": False}.get(token, Word(token))
        try:
            return int(token)
        except ValueError:
            value = float(token)
        if not math.isfinite(value):
            self.report(token, f"{token[:20]}… is too large a number")
        return value

    def check(self, token: Token, command: Command) -> None:
        """Hold a command against the table."""
        name = command.name
        signature = COMMANDS.get(name)
        if signature is None:
            self.report(token, f"`{_short(name)}` is not a known command{nearest(name, COMMANDS)}")
            return
        if signature.creates and not command.targets:
            self.report(token, f"`{name}` names what it makes: write `{name}1 = {name}(…)`")
        if signature.creates is False and command.targets:
            self.report(token, f"`{name}` makes no layer: drop `{', '.join(command.targets)} =`")
        if command.owner and signature.stage != "compilation":
            self.report(token, f"`{name}` belongs to no context: drop `{command.owner}.`")
        if signature.keywords is not None:
            for key, _ in command.kwargs:
                if key not in signature.keywords:
                    self.report(token, f"`{name}` has no argument {_short(key)}{nearest(key, signature.keywords)}")

    def report(self, token: Token, message: str) -> None:
        self.problems.append(Problem(f"{self.source}:{token.line}:{token.column}", message))


def _short(name: str) -> str:
    return name if len(name) <= QUOTE_LIMIT else f"{name[:QUOTE_LIMIT]}…"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is not among the known ones: a guess, or nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


_TERMINALS = {
    "WORD": "a name",
    "NUMBER": "a number",
    "STRING": "a string",
    "GLOB": "a layer pattern",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "EQUAL": "`=`",
    "COMMA": "`,`",
    "DOT": "`.`",
    "_NEWLINE": "the end of the line",
    "$END": "the end of the script",
}


def _syntax_problem(error: UnexpectedInput, text: str, source: str) -> Problem:
    """Say what stands there and what was expected, and show the line with a marker under the place."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    message = "syntax error"
    if isinstance(error, UnexpectedCharacters):
        unclosed = {'"': "a string", "'": "a string", "{": "a layer pattern"}.get(error.char)
        message = f"{unclosed} is not closed" if unclosed else f"unexpected character {error.char!r}"
    elif isinstance(error, UnexpectedToken):
        found = _TERMINALS[error.token.type] if error.token.type in ("$END", "_NEWLINE") else f"`{error.token[:40]}`"
        expected = {_TERMINALS[name] for name in error.accepts}
        if "a number" in expected:
            expected = expected - {"a name", "a number", "a string", "a layer pattern"} | {"a value"}
        message = f"expected {' or '.join(sorted(expected))}, found {found}{_open_bracket(error)}"
    marked = "\n".join(f"    {line}" for line in error.get_context(text, span=60).rstrip().splitlines())
    return Problem(f"{source}:{error.line}:{error.column}", f"{message}\n{marked}")


def _open_bracket(error: UnexpectedToken) -> str:
    """Name the innermost bracket that is open where the error stands."""
    stack: list[Any] = error.interactive_parser.parser_state.value_stack if error.interactive_parser else []
    brackets: list[Token] = []
    for token in stack:
        match getattr(token, "type", None):
            case "LPAR" | "LSQB":
                brackets.append(token)
            case "RPAR" | "RSQB":
                brackets.pop()
    return f"; the `{brackets[-1]}` at {brackets[-1].line}:{brackets[-1].column} is still open" if brackets else ""

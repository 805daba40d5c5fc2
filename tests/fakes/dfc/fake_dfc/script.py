"""Read a model script (.alls), refuse what is not one.

A command is `[name{, name} =] [owner.]command(arguments)`; arguments are numbers, True and False, words, quoted
strings, `{globs}` and [lists], by position or by keyword. Its own reader: that of hefjoin is to be checked by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import BackendScriptParserException

TOKENS = re.compile(
    r"""(?P<skip>(?:[ \t\r]|\#[^\n]*)+) | (?P<newline>\n) | (?P<string>"[^"\n]*"|'[^'\n]*') | (?P<glob>\{[^{}\n]+\})
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w./-])) | (?P<word>\w[\w/:-]*)
    | (?P<mark>[()\[\],=.])""",
    re.VERBOSE,
)


class Glob(str):
    """A pattern over layer names, without its braces."""

    __slots__ = ()


@dataclass(frozen=True)
class Command:
    """One command; values are float, int, bool, str, Glob or lists of these."""

    targets: tuple[str, ...]
    owner: str
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """When it acts: modification, optimization, compilation or any."""
        return _table()[self.name][0]


def parse(text: str) -> list[Command]:
    """Return the commands of a script.

    Raises:
        BackendScriptParserException: At the first place that is no command.
    """
    reader = _Reader(text)
    commands = []
    while reader.at("newline"):
        reader.take()
    while not reader.at("end"):
        commands.append(reader.command())
        while reader.at("newline"):
            reader.take()
    return commands


@cache
def _table() -> dict[str, tuple[str, str, frozenset[str]]]:
    text = re.sub(r"#[^\n]*\n", "", Path(__file__).with_name("commands.txt").read_text(encoding="utf-8"))
    rows = (row.split() for row in re.sub(r"\n ", " ", text).splitlines())
    return {name: (stage, left, frozenset(keywords)) for name, stage, left, *keywords in rows}


class _Reader:
    """The tokens of a script as (kind, text, offset); line ends inside brackets are dropped."""

    def __init__(self, text: str) -> None:
        self.text, self.place, self.tokens = text, 0, list[tuple[str, str, int]]()
        depth = offset = 0
        while offset < len(text):
            found = TOKENS.match(text, offset)
            if found is None:
                raise self.refusal(offset)
            kind, piece = str(found.lastgroup), found.group()
            depth += (piece in "([") - (piece in ")]") if kind == "mark" else 0
            if kind != "skip" and not (kind == "newline" and depth > 0):
                self.tokens.append((piece if kind == "mark" else kind, piece, offset))
            offset = found.end()
        self.tokens.append(("end", "", len(text)))

    def at(self, *kinds: str) -> bool:
        return self.tokens[self.place][0] in kinds

    def take(self, *kinds: str) -> str:
        if kinds and not self.at(*kinds):
            raise self.refusal(self.tokens[self.place][2])
        self.place += 1
        return self.tokens[self.place - 1][1]

    def refusal(self, offset: int) -> BackendScriptParserException:
        line = self.text.count("\n", 0, offset) + 1
        column = offset - self.text.rfind("\n", 0, offset)
        start, end = self.text.rfind("\n", 0, offset) + 1, f"{self.text}\n".find("\n", offset)
        return BackendScriptParserException(
            f"Parsing failed at:\n{self.text[start:offset]}>!<{self.text[offset:end]}\n"
            f"Expected end of text  (at char {offset}), (line:{line}, col:{column})"
        )

    def command(self) -> Command:
        start = self.tokens[self.place][2]
        targets, owner, name = [self.take("word")], "", ""
        while self.at(","):
            self.take()
            targets.append(self.take("word"))
        if self.at("="):
            self.take()
            name = self.take("word")
        elif len(targets) == 1:
            name, targets = targets[0], []
        if self.at("."):
            self.take()
            owner, name = name, self.take("word")
        args, kwargs = self.arguments()
        if not self.at("newline", "end"):
            raise self.refusal(self.tokens[self.place][2])
        stage, left, keywords = _table().get(name, ("", "", frozenset()))
        if not stage or (left == "yes" and not targets) or (left == "no" and targets) or kwargs.keys() - keywords:
            raise self.refusal(start)
        return Command(tuple(targets), owner, name, tuple(args), kwargs)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        self.take("(")
        while not self.at(")"):
            if self.tokens[self.place + 1][0] == "=":
                key = self.take("word")
                self.take()
                kwargs[key] = self.value()
            else:
                args.append(self.value())
            if not self.at(")"):
                self.take(",")
        self.take()
        return args, kwargs

    def value(self) -> Any:
        if self.at("["):
            self.take()
            items = []
            while not self.at("]"):
                items.append(self.value())
                if not self.at("]"):
                    self.take(",")
            self.take()
            return items
        kind = self.tokens[self.place][0]
        piece = self.take("number", "word", "string", "glob")
        if kind == "number":
            return int(piece) if re.fullmatch(r"[+-]?\d+", piece) else float(piece)
        if kind == "string":
            return piece[1:-1]
        if kind == "glob":
            return Glob(piece[1:-1].strip())
        return {"True": True, "False": False}.get(piece, piece)

"""Write values into the text of a spec and leave all else as its author wrote it, comments too."""

from __future__ import annotations

import difflib
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from hefjoin.errors import InputError
from hefjoin.joining.mend import Mend

WIDTH = 4096
"""Lines of the author's are not wrapped."""
_INDENTED_DASH = re.compile(r"^models:[^\n]*\n(?:\s*#[^\n]*\n)*[ ]+-", re.MULTILINE)


def raw_of(text: str) -> Any:
    """Return what a spec says, in whichever way it is written; None where it is no YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True
    try:
        return yaml.load(text)
    except (YAMLError, ValueError):
        return None


def edited(text: str, mends: Sequence[Mend]) -> str:
    """Return the text with values set; a JSON text stays one.

    Raises:
        InputError: It is written in a way in which it cannot be edited.
    """
    if text.lstrip().startswith("{"):
        document = json.loads(text)
        _set(document, mends, list)
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedSeq
    from ruamel.yaml.error import YAMLError

    def in_one_line(items: Sequence[Any]) -> Any:
        line = CommentedSeq(items)
        line.fa.set_flow_style()
        return line

    yaml = YAML()
    yaml.preserve_quotes = yaml.allow_duplicate_keys = True
    yaml.width = WIDTH
    if _INDENTED_DASH.search(text):
        yaml.indent(mapping=2, sequence=4, offset=2)
    stream = io.StringIO()
    try:
        document = yaml.load(text)
        _set(document, mends, in_one_line)
        yaml.dump(document, stream)
    except YAMLError as error:
        fields = ", ".join(mend.field for mend in mends)
        raise InputError(
            f"the spec cannot be edited ({' '.join(str(error).split())}); mend by hand: {fields}"
        ) from error
    return stream.getvalue()


def difference(before: str, after: str, name: str, new_name: str) -> str:
    """Return in which lines two texts differ."""
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), name, new_name, n=1)
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _set(document: Any, mends: Sequence[Mend], listed: Any) -> None:
    for mend in mends:
        *way, last = mend.path
        place = document
        for part in way:
            if isinstance(part, str) and part not in place:
                place[part] = {}
            place = place[part]
        place[last] = listed(mend.value) if isinstance(mend.value, list) else mend.value

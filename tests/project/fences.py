"""The fenced blocks of a document, and the commands in those of a shell."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

SHELLS = ("sh", "bash", "console", "shell")


@dataclass(frozen=True)
class Block:
    """A fenced block: the words after the opening fence, and its contents."""

    info: tuple[str, ...]
    body: str

    @property
    def is_shell(self) -> bool:
        """A block without a word counts as shell if it names this project's commands."""
        return not self.info or self.info[0] in SHELLS

    @property
    def needs(self) -> str:
        """The requirement of the block (```sh needs=docker), or nothing."""
        return next((word.partition("=")[2] for word in self.info if word.startswith("needs=")), "")


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text, in order."""
    result, info, body = [], None, []
    for line in text.splitlines():
        if info is None:
            if opened := re.match(r"```\s*([^`]*)$", line):
                info, body = tuple(opened[1].split()), []
        elif line.startswith("```"):
            result.append(Block(info, "\n".join(body) + "\n"))
            info = None
        else:
            body.append(line)
    return result


def command_lines(block: Block) -> list[str]:
    """The lines of a shell block that are commands: prompts and comments taken off, here-documents left out."""
    lines, until = [], ""
    for raw in block.body.replace("\\\n", " ").splitlines():
        line = raw.strip()
        if until:
            until = "" if line == until else until
            continue
        if opened := re.search(r"<<-?\s*'?(\w+)'?", line):
            until = opened[1]
        line = line.removeprefix("$ ").partition(" #")[0].strip()
        if line and not line.startswith("#"):
            lines.append(line)
    return lines


def wattlog_words(line: str) -> list[str] | None:
    """The words after `wattlog` in a command line, without variables set before it; None for other commands."""
    words = shlex.split(line)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    if not words or words[0].rpartition("/")[2] != "wattlog":
        return None
    return words[1:]

"""Which language a fenced block is in, and what its pane is called, by the words behind its fence. Pure."""

from __future__ import annotations

import re

MOST_READ = 1_000
LANGUAGE = re.compile(r"[A-Za-z0-9+#._-]{1,40}")
TITLE = re.compile(r"(?:title|file|filename|name)=(?:\"([^\"]*)\"|'([^']*)'|([^\s}]+))")
FILE = re.compile(r"[\w@+./\\ -]*\w\.([A-Za-z][A-Za-z0-9]{0,9})|(?:[\w./-]*/)?(?:Dockerfile|Makefile)")

KINDS = {"html": "html", "svg": "image", "csv": "table", "log": "log"}
NAMES = {
    "bash": "Shell", "c": "C", "cpp": "C++", "csharp": "C#", "css": "CSS", "csv": "CSV", "diff": "Diff",
    "dockerfile": "Dockerfile", "elixir": "Elixir", "go": "Go", "graphql": "GraphQL", "haskell": "Haskell",
    "html": "HTML", "ini": "INI", "java": "Java", "javascript": "JavaScript", "json": "JSON", "jsx": "JSX",
    "kotlin": "Kotlin", "latex": "LaTeX", "log": "Log", "lua": "Lua", "makefile": "Makefile", "markdown": "Markdown",
    "mermaid": "Mermaid", "perl": "Perl", "php": "PHP", "plaintext": "Text", "powershell": "PowerShell",
    "protobuf": "Protobuf", "python": "Python", "r": "R", "ruby": "Ruby", "rust": "Rust", "scala": "Scala",
    "sql": "SQL", "svg": "SVG", "swift": "Swift", "toml": "TOML", "tsx": "TSX", "typescript": "TypeScript",
    "xml": "XML", "yaml": "YAML",
}  # fmt: skip
"""What people call a language."""
SHORT = {
    "c#": "csharp", "c++": "cpp", "cc": "cpp", "console": "bash", "cs": "csharp", "docker": "dockerfile",
    "golang": "go", "h": "c", "hpp": "cpp", "hs": "haskell", "htm": "html", "js": "javascript", "kt": "kotlin",
    "make": "makefile", "md": "markdown", "mjs": "javascript", "pl": "perl", "proto": "protobuf", "py": "python",
    "python3": "python", "rb": "ruby", "rs": "rust", "sh": "bash", "shell": "bash", "tex": "latex",
    "text": "plaintext", "ts": "typescript", "txt": "plaintext", "yml": "yaml", "ps1": "powershell", "zsh": "bash",
}  # fmt: skip
"""Other names of them, and the ends of file names."""


def kind_of(language: str) -> str:
    """The kind of pane for a fenced block."""
    return KINDS.get(language, "code")


def named(info: str) -> tuple[str, str]:
    """Language and title: `python title="x.py"`, `python x.py`, `python:x.py`, `x.py`, `python`, or nothing at all."""
    info = info[:MOST_READ]
    titled = TITLE.search(info)
    words = TITLE.sub(" ", info).replace("{.", " ").replace("{", " ").replace("}", " ").split()
    first, _, file = (words[0] if words else "").partition(":")
    if titled:
        file = next((given for given in titled.groups() if given), "")
    elif not file and len(words) > 1 and FILE.fullmatch(words[1]):
        file = words[1]
    if not file and known(first) not in NAMES and FILE.fullmatch(first):
        first, file = "", first
    language = known(first) if first else by_name(file)
    return language, file or NAMES.get(language) or first[:40] or "Code"


def known(word: str) -> str:
    """The language that a word means; empty when it can be none."""
    if not LANGUAGE.fullmatch(word):
        return ""
    word = word.lower()
    return SHORT.get(word, word)


def by_name(file: str) -> str:
    """The language of a file by the end of its name."""
    found = FILE.fullmatch(file)
    return known(found[1] or re.split(r"[/\\]", file)[-1]) if found else ""

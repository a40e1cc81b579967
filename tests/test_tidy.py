"""House rules as tests. A rule goes from one file's text to its problems; every message names the remedy.

Each rule is shown to fail on a sample that breaks it, beside the run over the tree.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from quantum import reasons

ROOT: Path = settings.BASE_DIR
PRODUCT = ("quantum", "permits", "positions", "apply")
Problem = tuple[int, str]
Rule = Callable[[str, str], Iterator[Problem]]

LINES_MAX = 400
LONGER = {"tests/contract/test_paper_exchange.py": 670, "tools/verify_bundle.py": 740}
"""The first was longer when the rule came; it may not grow, and leaves this list when it is split. The second is
one file on purpose: a stranger copies it and needs nothing else."""
NO_NOUNS = {"utils", "util", "helpers", "helper", "services", "service", "common", "misc"}
CLOCKS = {
    "quantum/clock.py": "the seam itself",
    "quantum/exchange/pacing.py": "the adapter's own seam: the exchange's clock, injected in tests",
    "quantum/exchange/paper/server.py": "another program: the exchange has a clock of its own",
    "quantum/exchange/paper/entry_bot.py": "a user of that exchange, on the exchange's clock",
    "quantum/exchange/paper/process.py": "starts that program; runs in tests without settings",
}
PRINTERS = {"quantum/exchange/paper/__main__.py": "runs without Django, so there is no command to write with"}
MONEY = re.compile(r"(permits|positions|apply)/|quantum/(amounts|plan|fields)\.py|quantum/exchange/")
ADAPTER = ("quantum/exchange/binance_client.py", "quantum/exchange/binance_stream.py")
TIME_NAME = re.compile(r".*(_SEC|_s|_ms)")


# ---- rules for Python files


def keys_are_spelled_in_one_place(path: str, text: str) -> Iterator[Problem]:
    if path == "quantum/keys.py":
        return
    tree = ast.parse(text)
    for node in _strings(tree):
        if "quantum:" in str(node.value) and id(node) not in _docstrings(tree):
            yield node.lineno, 'spells "quantum:"; ask settings.KEYS (quantum/keys.py) for the key'


def python_binance_stays_in_its_adapter(path: str, text: str) -> Iterator[Problem]:
    if path in ADAPTER:
        return
    for node, module in _imports(ast.parse(text)):
        if module.partition(".")[0] == "binance":
            yield node.lineno, "imports python-binance; use quantum/exchange/binance_reader.py or a Reader"


def money_is_never_a_float(path: str, text: str) -> Iterator[Problem]:
    """float() is allowed on one thing only: a name that ends in a unit of time."""
    if not MONEY.match(path):
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        if _called(node) == "FloatField":
            yield node.lineno, "stores floats; use AmountField for amounts (quantum/fields.py)"
        elif _called(node) == "float" and not _is_time(node):
            yield node.lineno, "float() on what may be money; keep it Decimal, or name a time _s, _ms, _SEC"


def only_the_clock_knows_the_time(path: str, text: str) -> Iterator[Problem]:
    if path in CLOCKS:
        return
    remedy = "; call quantum.clock, so that tests can move time"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield node.lineno, f"imports names from time{remedy}"
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        if owner == "time" and node.attr != "struct_time":
            yield node.lineno, f"uses time.{node.attr}{remedy}"
        if node.attr in {"now", "utcnow", "today", "localtime"} and re.search(
            r"(datetime|date|timezone)$", owner
        ):
            yield node.lineno, f"asks {owner}.{node.attr}{remedy}"


def files_are_short(path: str, text: str) -> Iterator[Problem]:
    lines, most = text.count("\n"), LONGER.get(path, LINES_MAX)
    if lines > most:
        yield most, f"has {lines} lines; split it by nouns, {most} are the limit"


def modules_are_named_by_nouns(path: str, text: str) -> Iterator[Problem]:
    for part in Path(path).with_suffix("").parts:
        if part in NO_NOUNS:
            yield 1, f"is called {part}; name it after the thing it is about"


def data_leaves_by_commands_and_talk_by_the_log(path: str, text: str) -> Iterator[Problem]:
    if path in PRINTERS:
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and _called(node) == "print" and isinstance(node.func, ast.Name):
            yield node.lineno, "prints; use the log, or say() and data() of a command"


def values_are_structs(path: str, text: str) -> Iterator[Problem]:
    """Defining a dataclass takes forty times as long, in each start of a process."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ClassDef) or "repr=False" in ast.unparse(node):
            continue
        made = [ast.unparse(each) for each in node.decorator_list if _called(each) == "dataclass"]
        if any("frozen=True" in each and "slots=True" in each for each in made):
            yield (
                node.lineno,
                "is a frozen dataclass; make it a msgspec.Struct, unless a repr must hide a field",
            )


def _strings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node


def _docstrings(tree: ast.AST) -> set[int]:
    """Every bare string statement: docstrings, and those below an attribute."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node, node.module or ""


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return ast.unparse(node.func).rpartition(".")[2]


def _is_time(call: ast.Call) -> bool:
    if len(call.args) != 1 or not isinstance(call.args[0], (ast.Name, ast.Attribute)):
        return False
    return bool(TIME_NAME.fullmatch(ast.unparse(call.args[0])))


# ---- rules for Lua files


def lua_spells_no_key(path: str, text: str) -> Iterator[Problem]:
    for number, line in enumerate(text.splitlines(), start=1):
        if "quantum:" in line:
            yield number, 'spells "quantum:"; take the key through KEYS'


def lua_head_is_complete_and_true(path: str, text: str) -> Iterator[Problem]:
    """What it is for, KEYS, ARGV and Returns, and numbers that agree with the name and the code below."""
    count = re.fullmatch(r"[a-z_]+-([0-9]+)", Path(path).stem)
    if count is None:
        yield 1, "its name must be <name>-<number of keys>.lua"
        return
    head, body = _head_and_body(text)
    if not head or re.match(r"(KEYS|ARGV|Returns)", head[0]):
        yield 1, "the first line must be a comment that says what it is for"
    if not any(line.startswith("Returns ") for line in head):
        yield 1, "the head lacks a line `-- Returns ...`"
    keys, arguments, rest = _numbered(head, "KEYS"), _numbered(head, "ARGV"), _rest_from(head)
    if keys != list(range(1, int(count[1]) + 1)):
        yield 1, f"the head lists KEYS {keys}, its name says {count[1]}; make both agree"
    if sorted(set(_used(body, "KEYS"))) != keys:
        yield 1, f"the code uses KEYS {sorted(set(_used(body, 'KEYS')))}, the head lists {keys}"
    used = sorted(set(_used(body, "ARGV")) - ({rest} if rest else set()))
    if used != [number for number in arguments if number != rest]:
        yield 1, f"the code uses ARGV {used}, the head lists {arguments}"


def _head_and_body(text: str) -> tuple[list[str], str]:
    lines = text.splitlines()
    end = next((at for at, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return [line.removeprefix("--").strip() for line in lines[:end]], "\n".join(lines[end:])


def _section(head: list[str], word: str) -> str:
    """The lines of KEYS or ARGV, up to the next heading; continued lines begin with a number."""
    found, inside = [], False
    for line in head:
        if re.match(r"(KEYS|ARGV|Returns)\b", line):
            inside = line.startswith(word)
        elif not re.match(r"[0-9]+\s", line):
            inside = False
        if inside:
            found.append(line)
    return "\n".join(found)


def _numbered(head: list[str], word: str) -> list[int]:
    """Either `KEYS 1 this  2 that` or `KEYS[1] this`, and ARGV the same way."""
    section = _section(head, word)
    numbers = re.findall(r"(?:^|\s{2,}|^KEYS |^ARGV )([0-9]+)(?:\.\.)?\s", section, flags=re.MULTILINE)
    return [int(number) for number in numbers or re.findall(rf"{word}\[([0-9]+)\]", section)]


def _rest_from(head: list[str]) -> int | None:
    found = re.search(r"([0-9]+)\.\. ", _section(head, "ARGV"))
    return int(found[1]) if found else None


def _used(body: str, word: str) -> list[int]:
    return [int(number) for number in re.findall(rf"{word}\[([0-9]+)\]", body)]


# ---- the tree is tidy


PYTHON_RULES: tuple[Rule, ...] = (
    keys_are_spelled_in_one_place,
    python_binance_stays_in_its_adapter,
    money_is_never_a_float,
    only_the_clock_knows_the_time,
    files_are_short,
    modules_are_named_by_nouns,
    data_leaves_by_commands_and_talk_by_the_log,
    values_are_structs,
)
LUA_RULES: tuple[Rule, ...] = (lua_spells_no_key, lua_head_is_complete_and_true)


def _files(pattern: str, *folders: str) -> list[Path]:
    found = [file for folder in folders for file in (ROOT / folder).rglob(pattern)]
    assert found, f"no {pattern} under {folders}: the rule would hold nothing"
    return [file for file in found if "migrations" not in file.parts]


def _problems(rule: Rule, files: list[Path]) -> list[str]:
    return [
        f"{path}:{line}: {problem}"
        for file in files
        for path in [file.relative_to(ROOT).as_posix()]
        for line, problem in rule(path, file.read_text())
    ]


@pytest.mark.parametrize("rule", PYTHON_RULES, ids=lambda rule: rule.__name__)
def test_the_product_keeps_the_rule(rule: Rule) -> None:
    assert not _problems(rule, _files("*.py", *PRODUCT))


@pytest.mark.parametrize(
    "rule", [files_are_short, modules_are_named_by_nouns], ids=lambda rule: rule.__name__
)
def test_the_tests_keep_the_rule(rule: Rule) -> None:
    assert not _problems(rule, _files("*.py", "tests"))


@pytest.mark.parametrize("rule", LUA_RULES, ids=lambda rule: rule.__name__)
def test_every_lua_file_keeps_the_rule(rule: Rule) -> None:
    assert not _problems(rule, _files("*.lua", *PRODUCT))


def test_every_exception_to_a_rule_is_still_needed() -> None:
    for path in (*CLOCKS, *PRINTERS, *LONGER):
        assert (ROOT / path).is_file(), f"{path} is gone; take it off its list"
    for path in LONGER:
        lines = (ROOT / path).read_text().count("\n")
        assert lines > LINES_MAX, f"{path} is short enough now; take it off LONGER"


# ---- and each rule can fail


GOOD_LUA = (
    "-- Does it.\n-- KEYS 1 a  2 b\n-- ARGV 1 c  2.. more\n-- Returns 1.\n"
    "return {KEYS[1], KEYS[2], ARGV[1]}\n"
)
FROZEN = "@dataclass(frozen=True, slots=True)\nclass A:\n"
BREAKS: tuple[tuple[Rule, str, str], ...] = (
    (keys_are_spelled_in_one_place, "apply/x.py", 'KEY = f"quantum:permit:{plan_id}"'),
    (python_binance_stays_in_its_adapter, "apply/x.py", "from binance.client import Client"),
    (python_binance_stays_in_its_adapter, "apply/x.py", "import binance"),
    (money_is_never_a_float, "apply/x.py", "x = float(order.quantity)"),
    (money_is_never_a_float, "positions/x.py", "x = float('0.1')"),
    (money_is_never_a_float, "permits/x.py", "x = models.FloatField()"),
    (only_the_clock_knows_the_time, "apply/x.py", "import time\nx = time.time()"),
    (only_the_clock_knows_the_time, "apply/x.py", "from time import monotonic"),
    (only_the_clock_knows_the_time, "apply/x.py", "x = dt.datetime.now(dt.UTC)"),
    (only_the_clock_knows_the_time, "apply/x.py", "x = Field(default=timezone.now)"),
    (files_are_short, "apply/x.py", "\n" * (LINES_MAX + 1)),
    (modules_are_named_by_nouns, "apply/utils.py", ""),
    (modules_are_named_by_nouns, "apply/services/x.py", ""),
    (data_leaves_by_commands_and_talk_by_the_log, "apply/x.py", "print(1)"),
    (values_are_structs, "apply/x.py", f"{FROZEN}    b: int"),
    (lua_spells_no_key, "apply/lua/x-1.lua", "local key = 'quantum:permit:' .. ARGV[1]"),
    (lua_head_is_complete_and_true, "apply/lua/x.lua", GOOD_LUA),
    (lua_head_is_complete_and_true, "apply/lua/x-3.lua", GOOD_LUA),
    (lua_head_is_complete_and_true, "apply/lua/x-2.lua", GOOD_LUA.replace("-- Does it.\n", "")),
    (lua_head_is_complete_and_true, "apply/lua/x-2.lua", GOOD_LUA.replace("-- Returns 1.\n", "")),
    (lua_head_is_complete_and_true, "apply/lua/x-2.lua", GOOD_LUA.replace("  2 b", "")),
    (lua_head_is_complete_and_true, "apply/lua/x-2.lua", GOOD_LUA.replace(", KEYS[2]", "")),
    (lua_head_is_complete_and_true, "apply/lua/x-2.lua", GOOD_LUA.replace("ARGV[1]}", "ARGV[3]}")),
    (lua_head_is_complete_and_true, "apply/lua/x-2.lua", GOOD_LUA.replace("-- ARGV 1 c  2.. more\n", "")),
)
KEEPS: tuple[tuple[Rule, str, str], ...] = (
    (keys_are_spelled_in_one_place, "apply/x.py", '"""About quantum:permit keys."""\n# quantum:x'),
    (money_is_never_a_float, "apply/x.py", "x = float(settings.P33_HEARTBEAT_SEC) + float(wait_s)"),
    (only_the_clock_knows_the_time, "apply/x.py", "from quantum import clock\nx = clock.now()"),
    (values_are_structs, "apply/x.py", f"{FROZEN}    b: str = field(repr=False)"),
    (values_are_structs, "apply/x.py", "@dataclass(slots=True)\nclass A:\n    b: int"),
    (lua_head_is_complete_and_true, "apply/lua/x-2.lua", GOOD_LUA),
)


@pytest.mark.parametrize(("rule", "path", "text"), BREAKS)
def test_a_rule_finds_what_breaks_it(rule: Rule, path: str, text: str) -> None:
    assert list(rule(path, text))


@pytest.mark.parametrize(("rule", "path", "text"), KEEPS)
def test_a_rule_lets_pass_what_keeps_it(rule: Rule, path: str, text: str) -> None:
    assert not list(rule(path, text))


# ---- the documents know every reason and every setting


SECTIONS = {
    "Reasons of the gate": reasons.GateReason,
    "Reasons of apply": reasons.ApplyReason,
    "Reasons of the Brain": reasons.BrainReason,
    "Reasons of the Governor": reasons.GovernorReason,
    "Reasons of the intake": reasons.ProposalReason,
}


def table_rows(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of one section's table by the word in their first cell."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in section.splitlines()]
    return {row[0].strip("`"): row[1:] for row in rows if row[0].startswith("`")}


@pytest.mark.parametrize("heading", SECTIONS)
def test_operations_explains_every_reason_and_no_other(heading: str) -> None:
    rows = table_rows((ROOT / "docs/OPERATIONS.md").read_text(), heading)
    remedy = f"mend the table under `{heading}` in docs/OPERATIONS.md"
    assert set(rows) == {reason.value for reason in SECTIONS[heading]}, remedy
    for reason, cells in rows.items():
        assert [bool(cell) for cell in cells] == [True, True], (
            f"{reason} needs its meaning and the next action; {remedy}"
        )


def test_the_readme_lists_every_setting_and_no_other() -> None:
    exchange = {f"BINANCE_{use}_{part}" for use in ("READ", "TRADE") for part in ("KEY", "SECRET")}
    rows = table_rows((ROOT / "README.md").read_text(), "Configuration")
    assert set(rows) == {*settings.ENVIRONMENT.names(), *exchange}, "mend the table in README.md"
    assert all(len(cells) == 2 and all(cells) for cells in rows.values()), "each needs default and meaning"


def test_a_missing_row_is_noticed() -> None:
    text = "\n## Configuration\n\n| setting | default | meaning |\n| `A` | `1` | x |\n## Next\n| `B` | | |"
    assert table_rows(text, "Configuration") == {"A": ["`1`", "x"]}

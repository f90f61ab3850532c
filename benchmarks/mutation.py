"""Mutation checks: which small mistakes in the renderer and the losses would no test notice?

    python -m benchmarks.mutation                                  # all modules, some 20 minutes of two cores
    python -m benchmarks.mutation --file recon/render/normals.py   # one module
    python -m benchmarks.mutation --file recon/render/normals.py --function cross

Every mutant is the project with one expression or statement changed: a comparison turned, a sign or a constant
changed, a condition or a `clamp` left out, and so on. It is killed when a test fails, when a test takes several times
as long as before, or when it cannot be imported. The survivors are listed. `ACCEPTED` says of which of them it is
known why no test can kill them; the exit status is 1 where there are others.

A mutant's tests run in a process forked from one that has imported everything and collected the tests. It changes the
functions that it has loaded, and no file.
"""

import argparse
import ast
import copy
import inspect
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mutation_accepted import ACCEPTED

ROOT = Path(__file__).parents[1]

RENDERING = [
    "tests/test_antialias.py",
    "tests/test_rasterize.py",
    "tests/test_render_gradients.py",
    "tests/test_camera.py",
    "tests/test_losses.py",
    "tests/test_renderer.py",
]

TESTS = {
    "recon/render/antialias.py": RENDERING,
    "recon/render/box_filter.py": RENDERING,
    "recon/render/edges.py": ["tests/test_edges.py", *RENDERING],
    "recon/render/intersect.py": RENDERING,
    "recon/render/normals.py": RENDERING,
    "recon/render/rasterize.py": RENDERING,
    "recon/render/renderer.py": RENDERING,
    "recon/render/shade.py": [*RENDERING, "tests/test_reflectance.py"],
    "recon/render/silhouettes.py": RENDERING,
    "recon/camera.py": ["tests/test_camera.py", *RENDERING],
    "recon/training/losses.py": ["tests/test_losses.py"],
    "recon/background/losses.py": ["tests/test_background_losses.py", "tests/test_background.py"],
}
"""The tests that are run against a module's mutants, quick ones first."""

SLOW = "finite_differences or towards_its_target or training or warm_up or first_guess or guide or given_background"
"""Tests that are left out, as pytest's `-k` has them: they take longer than all others together."""

MEMORY = 8 << 30
NOT_IMPORTED, NOT_APPLIED = 254, 253
PATIENCE = 4.0
"""A mutant that takes so many times as long as the tests do without it is killed: it loops, or loses its chunks."""

TURNED: dict[type[ast.AST], list[type[ast.AST]]] = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.Mult],
    ast.Pow: [ast.Mult],
    ast.LShift: [ast.RShift],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
}

SWAPPED = {
    "min": "max",
    "amin": "amax",
    "minimum": "maximum",
    "floor": "ceil",
    "floor_": "ceil_",
    "sum": "mean",
    "ones_like": "zeros_like",
    "new_zeros": "new_ones",
    "sqrt": "square",
    "rsqrt": "sqrt",
    "rsqrt_": "sqrt_",
    "cos": "sin",
    "tan": "sin",
}
SWAPPED |= {there: back for back, there in SWAPPED.items()}

DROPPED = {"clamp", "clamp_", "abs", "flip", "detach", "clone", "ceil_", "floor_", "floor", "pow", "sort", "cumsum"}
"""Methods without which a mutant takes what they are called on. (`contiguous` changes no result.)"""


@dataclass(frozen=True)
class Mutant:
    module: str
    line: int
    function: str
    change: str
    source: str

    @property
    def name(self) -> tuple[str, str, str]:
        return self.module, self.function, self.change


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse((ROOT / module).read_text())
    unchanged = ast.unparse(tree)
    for holder, key, node, function in list(_places(tree, "")):
        for changed in _changes(node):
            _put(holder, key, changed)
            source = ast.unparse(ast.fix_missing_locations(tree))
            _put(holder, key, node)
            pairs = zip(unchanged.splitlines(), source.splitlines(), strict=True)
            before, after = next((old.strip(), new.strip()) for old, new in pairs if old != new)
            yield Mutant(module, node.lineno, function, f"{before}  =>  {after}", source)


def _places(node: ast.AST, function: str) -> Iterator[tuple[ast.AST | list[ast.AST], str | int, ast.AST, str]]:
    """Expressions and statements, each with what holds it and the name of the function around it."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        function = f"{function}.{node.name}".lstrip(".")
    for field, value in ast.iter_fields(node):
        # No behaviour: names of types, decorators (they save memory and refuse second derivatives), f-strings.
        if field in ("annotation", "returns", "decorator_list", "bases") or isinstance(node, ast.JoinedStr):
            continue
        within: ast.AST | list[ast.AST] = value if isinstance(value, list) else node
        for key, child in enumerate(value) if isinstance(value, list) else [(field, value)]:
            if isinstance(child, (ast.expr, ast.stmt)):
                yield within, key, child, function
            if isinstance(child, ast.AST):
                yield from _places(child, function)


def _put(holder: ast.AST | list[ast.AST], key: str | int, node: ast.AST) -> None:
    if isinstance(holder, list):
        holder[key] = node  # type: ignore[index]
    else:
        setattr(holder, str(key), node)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(2 * value if value else 1.0)
        case ast.UnaryOp():
            yield node.operand
        case ast.Compare(ops=[op]):
            for other in TURNED.get(type(op), []):
                yield _with(node, ops=[other()])
        case ast.BinOp(left=left, op=op, right=right):
            for other in TURNED.get(type(op), []):
                yield _with(node, op=other())
            if isinstance(op, (ast.BitAnd, ast.BitOr)):
                yield from (left, right)
        case ast.BoolOp(values=values):
            yield from values
        case ast.IfExp(body=body, orelse=orelse):
            yield from (body, orelse)
        case ast.If(test=test) | ast.While(test=test):
            for value in (True, False) if isinstance(node, ast.If) else (False,):
                if not isinstance(test, ast.Constant):
                    yield _with(node, test=ast.Constant(value))
        case ast.Call(func=func, args=args):
            name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
            if name == "where":
                yield from args[1:]
            if name in SWAPPED:
                other = SWAPPED[name]
                yield _with(node, func=_with(func, **{"attr" if isinstance(func, ast.Attribute) else "id": other}))
            if name in DROPPED and isinstance(func, ast.Attribute):
                yield func.value
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            yield ast.Pass()
        case ast.Assign(targets=[target], value=value):
            used = {name.id for name in ast.walk(value) if isinstance(name, ast.Name)}
            names = {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
            if isinstance(target, (ast.Subscript, ast.Attribute)) or (names and names <= used):
                yield ast.Pass()


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _executed(mutant: Mutant) -> dict[str, Any]:
    """What the mutant's module would hold."""
    changed = dict(vars(sys.modules[mutant.module.removesuffix(".py").replace("/", ".")]))
    exec(compile(mutant.source, mutant.module, "exec"), changed)
    return changed


def _apply(mutant: Mutant, changed: dict[str, Any]) -> None:
    """Change the loaded module to what the mutant's would hold.

    A changed function keeps its identity, so that it is changed for those who imported it by name, too; a constant is
    changed wherever it was imported.
    """
    module = sys.modules[mutant.module.removesuffix(".py").replace("/", ".")]
    if mutant.function:
        there, here = (_function(names, mutant.function) for names in (changed, vars(module)))
        for part in ("__code__", "__defaults__", "__kwdefaults__"):
            setattr(here, part, getattr(there, part))
        return
    for name, value in changed.items():
        if name.isupper() and value != vars(module)[name]:
            for user in list(sys.modules.values()):
                if getattr(user, name, None) is vars(module)[name]:
                    setattr(user, name, value)


def _function(names: dict[str, Any], path: str) -> Any:
    name, *rest = path.split(".")
    found = names[name]
    for name in rest:
        found = vars(found)[name]
    if isinstance(found, property):
        found = found.fget
    return inspect.unwrap(getattr(found, "__func__", found))


class Checks:
    """A plugin that, once pytest has collected the tests, runs them against each mutant in a forked process."""

    def __init__(self, chosen: list[Mutant], processes: int) -> None:
        self.chosen, self.processes = chosen, processes
        self.fork = multiprocessing.get_context("fork")
        self.seconds: dict[str, float] = {}
        self.kills: Counter[tuple[str, str]] = Counter()
        self.survivors: list[Mutant] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        # Mutants run beside one another: one thread each.
        import torch

        torch.set_num_threads(1)
        self._time(session.items)
        waiting = self.chosen[::-1]
        busy: dict[int, tuple[BaseProcess, Mutant, list[pytest.Item], float]] = {}
        while waiting or busy:
            while waiting and len(busy) < self.processes:
                mutant = waiting.pop()
                items = self._tests_of(mutant.module, session.items)
                limit = PATIENCE * sum(self.seconds[item.nodeid] for item in items) + 10
                process = self.fork.Process(target=_test, args=(items, mutant))
                process.start()
                busy[process.sentinel] = (process, mutant, items, time.monotonic() + limit)
            wait(list(busy), timeout=1)
            for sentinel, (process, mutant, items, until) in list(busy.items()):
                if process.is_alive() and time.monotonic() < until:
                    continue
                process.kill()
                process.join()
                del busy[sentinel]
                if process.exitcode == 0:
                    self.survivors.append(mutant)
                    _print(mutant)
                elif process.exitcode == NOT_APPLIED:
                    raise SystemExit(f"cannot apply {mutant.name}")
                elif process.exitcode is not None and 0 < process.exitcode <= len(items):
                    self.kills[mutant.module, items[process.exitcode - 1].nodeid] += 1
        return True

    def _time(self, items: list[pytest.Item]) -> None:
        """How long each test takes, in a process of its own: threads that this one started would not be forked."""
        reader, writer = self.fork.Pipe(duplex=False)
        process = self.fork.Process(target=_test, args=(items, None, writer))
        process.start()
        writer.close()
        try:
            self.seconds = reader.recv()
        except EOFError:
            process.join()
            raise SystemExit(f"fails without any change: {items[(process.exitcode or 0) - 1].nodeid}") from None

    def _tests_of(self, module: str, items: list[pytest.Item]) -> list[pytest.Item]:
        """Those that are to notice, first those that have killed most mutants a second."""
        chosen = [item for item in items if str(item.path.relative_to(ROOT)) in TESTS[module]]
        return sorted(chosen, key=lambda item: -(self.kills[module, item.nodeid] + 0.1) / self.seconds[item.nodeid])


def _test(items: list[pytest.Item], mutant: Mutant | None, times: Connection | None = None) -> None:
    """The body of a forked process: exits with 0 where all tests pass, else with the number of the one that fails."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    if mutant is not None:
        try:
            changed = _executed(mutant)
        except Exception:
            os._exit(NOT_IMPORTED)
        try:
            _apply(mutant, changed)
        except Exception:
            os._exit(NOT_APPLIED)
    seconds = {}
    for i, item in enumerate(items):
        start = time.perf_counter()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=items[i + 1] if i + 1 < len(items) else None)
        seconds[item.nodeid] = time.perf_counter() - start
        if item.session.testsfailed:
            os._exit(i + 1)
    if times is not None:
        times.send(seconds)
    os._exit(0)


def _print(mutant: Mutant) -> None:
    print(f"{mutant.module}:{mutant.line}: {mutant.function}: {mutant.change}", flush=True)
    if mutant.name in ACCEPTED:
        print(f"    accepted: {ACCEPTED[mutant.name]}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--file", action="append", choices=list(TESTS), help="a module, may be repeated; default: all")
    parser.add_argument("--function", action="append", help="a function of it, may be repeated")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    chosen = [mutant for module in arguments.file or TESTS for mutant in mutants(module)]
    if arguments.function:
        chosen = [mutant for mutant in chosen if mutant.function in arguments.function]
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.module}:{mutant.line}: {mutant.function}: {mutant.change}")
        print(len(chosen), "mutants")
        return 0
    checks = Checks(chosen, arguments.processes)
    tests = sorted({test for mutant in chosen for test in TESTS[mutant.module]})
    # Without the checks of shapes, which would stand between a function and its code.
    options = ["-s", "-p", "no:terminal", "-p", "no:cacheprovider", "-o", "addopts=", "-k", f"not ({SLOW})"]
    status = pytest.main([*options, *(str(ROOT / test) for test in tests)], plugins=[checks])
    if status != pytest.ExitCode.OK:
        return int(status)
    accepted = sum(mutant.name in ACCEPTED for mutant in checks.survivors)
    alive = len(checks.survivors) - accepted
    print(f"{len(chosen)} mutants, {len(chosen) - alive - accepted} killed, {accepted} accepted, {alive} survive")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())

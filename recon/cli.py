"""The command line: arguments in, one library call each, errors in one line.

What a command needs is imported when it runs, so that `recon --help` answers at once.
"""

import argparse
import math
import os
import re
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from recon import __version__
from recon.errors import ReconError

BAD_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `recon` with `arguments` (the process's own where None) and return its exit code."""
    options = parser().parse_args(arguments)
    # A cluster's scheduler ends jobs with SIGTERM: leave through the same doors as Ctrl-C, so that
    # temporary files go and MLflow learns of it.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        options.command(options)
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ReconError, OSError) as error:
        if "debug" in options:
            raise
        print(f"recon: error: {_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except (MemoryError, RuntimeError) as error:
        advice = _out_of_memory(error)
        if advice is None or "debug" in options:
            raise
        print(f"recon: error: {advice}", file=sys.stderr)
        return BAD_INPUT


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    debug = _Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")
    root = _Parser(
        prog="recon", description="From flash photographs to a closed mesh with its reflectance.", parents=[debug]
    )
    root.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_extract,
        _add_keyframes,
        _add_reference,
        _add_train,
        _add_validate,
        _add_render,
        _add_report,
        _add_view,
        _add_inspect,
        _add_store,
        _add_sync,
    ):
        add(commands, debug)
    return root


def _add_extract(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("extract", parents=[debug], help="make a viewpoint set from a scene or photographs")
    command.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="scene.yaml, transforms.json or its folder, folder of COLMAP or DiLiGenT-MV, .blend, or keyframes.npz",
    )
    command.add_argument("--out", type=Path, required=True, metavar="VIEWS", help="views.npz to write")
    command.add_argument(
        "--set-name", type=_name, metavar="NAME", help="viewpoint set of a scene, or camera of a .blend, with several"
    )
    command.add_argument(
        "--mesh", type=Path, metavar="MESH", help="mesh to render from the viewpoints of keyframes.npz"
    )
    command.add_argument(
        "--like", type=Path, metavar="VIEWS", help="take unit frame and radiance scale of this viewpoint set"
    )
    command.add_argument(
        "--light-cosine", type=_cosine, metavar="C", help="lights of DiLiGenT-MV to take, above C with the viewing axis"
    )
    command.add_argument(
        "--object", metavar="NAME", help="object or collection of a .blend to reconstruct (default: what is looked at)"
    )
    command.add_argument(
        "--color-space", choices=("srgb", "linear"), help="what photographs are that do not say so themselves"
    )
    command.add_argument(
        "--sphere", type=_sphere, metavar="X,Y,Z,R", help="sphere around the object of photographs, in their own frame"
    )
    command.add_argument("--size", type=_side, metavar="N", help="make views of N×N pixels of photographs")
    command.add_argument(
        "--marker", type=_positive, metavar="MILLIMETRES", help="side of a printed ArUco marker in the photographs"
    )
    command.add_argument(
        "--hold-out",
        type=_every,
        metavar="N",
        help="keep every N-th view for a second set, VIEWS_held_out, in the same frame",
    )
    command.set_defaults(command=_extract)


def _add_keyframes(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("keyframes", parents=[debug], help="write the viewpoints of a scene alone")
    command.add_argument("source", type=Path, metavar="SOURCE", help="scene.yaml or .blend")
    command.add_argument("--out", type=Path, required=True, metavar="KEYFRAMES", help="keyframes.npz to write")
    command.add_argument(
        "--set-name", type=_name, metavar="NAME", help="viewpoint set of a scene, or camera of a .blend, with several"
    )
    command.set_defaults(command=_keyframes)


def _add_reference(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("reference", parents=[debug], help="write the true mesh of a scene")
    command.add_argument("source", type=Path, metavar="SCENE", help="scene.yaml or .blend")
    command.add_argument("--out", type=Path, required=True, metavar="MESH", help="mesh to write, such as truth.ply")
    command.add_argument("--object", metavar="NAME", help="object or collection of a .blend that is meant")
    command.set_defaults(command=_reference)


def _add_train(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("train", parents=[debug], help="fit surface and reflectance to a viewpoint set")
    command.add_argument("--views", type=Path, required=True, metavar="VIEWS", help="viewpoint set to fit")
    command.add_argument("--config", type=Path, metavar="YAML", help="configuration; defaults where left out")
    _add_named_views(command, "--validation", required=False, help="viewpoint sets to measure at checkpoints")
    command.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override keys of the configuration"
    )
    command.add_argument("--max-minutes", type=_minutes, metavar="M", help="end the schedule by wall clock")
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder to write")
    command.add_argument("--name", help="of the run in MLflow (default: the last two parts of the folder)")
    command.add_argument(
        "--restart",
        nargs="?",
        const="always",
        choices=("always", "changed"),
        help="train anew instead of going on from the state in RUN: always, or where views or settings have changed",
    )
    command.add_argument("--quiet", action="store_true", help="no progress line")
    command.set_defaults(command=_train)


def _add_validate(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("validate", parents=[debug], help="measure a run on viewpoint sets")
    command.add_argument("--run", type=Path, required=True, metavar="RUN", help="folder that training wrote")
    _add_named_views(command, "--views", required=True, help="viewpoint sets to measure on")
    command.add_argument("--reference", type=Path, metavar="MESH", help="true mesh in the source's frame")
    command.add_argument("--tone", choices=("clamp", "scale"), default="clamp", help="radiance above 1 in pictures")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    command.set_defaults(command=_validate)


def _add_render(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("render", parents=[debug], help="pictures of a run's object, in any light")
    command.add_argument("run", type=Path, metavar="RUN", help="folder that training wrote")
    command.add_argument(
        "--path",
        default="turntable",
        metavar="PATH",
        help="turntable (default), or the cameras of views.npz or keyframes.npz, in the source's frame",
    )
    command.add_argument(
        "--light",
        default="camera",
        metavar="LIGHT",
        help="camera (default), a point X,Y,Z in the source's frame, or an environment (.hdr, .exr; z is up)",
    )
    command.add_argument(
        "--size", type=_picture_size, metavar="WxH", help="pixels (default: the path's; turntable 512x512)"
    )
    command.add_argument("--level", type=_level, metavar="N", help="of the icosphere, 0 to 7 (default: the run's)")
    command.add_argument(
        "--frames", type=_count, metavar="N", help="of a turntable (72), or along a curve through the path's cameras"
    )
    command.add_argument(
        "--samples", type=_count, default=256, metavar="S", help="directions drawn from an environment (default: 256)"
    )
    command.add_argument(
        "--intensity", type=_positive, default=1.0, metavar="Q", help="of the light, relative to the flash (default: 1)"
    )
    command.add_argument(
        "--exposure",
        type=_stops,
        metavar="STOPS",
        help="brighten by 2^STOPS, where 0 is as trained (default: metered, one for all frames)",
    )
    command.add_argument(
        "--backdrop",
        choices=("black", "environment", "run"),
        default="black",
        help="behind the object: black (default), the environment that lights it, or what the run learned",
    )
    command.add_argument("--linear", action="store_true", help="in a folder also EXR, linear, in the source's unit")
    command.add_argument("--fps", type=_positive, default=24.0, metavar="R", help="frames a second of a film (24)")
    command.add_argument("--out", type=Path, required=True, metavar="OUT", help="folder for PNG, or .mp4 or .gif")
    command.add_argument("--quiet", action="store_true", help="no progress line")
    command.set_defaults(command=_render)


def _add_report(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("report", parents=[debug], help="one page that compares runs")
    command.add_argument("--runs", type=Path, nargs="+", action="extend", required=True, metavar="RUN", help="folders")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    command.set_defaults(command=_report)


def _add_view(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("view", parents=[debug], help="look at a run, mesh or viewpoint set in the browser")
    command.add_argument("target", type=Path, metavar="TARGET", help="RUN, mesh file or views.npz")
    command.add_argument("--port", type=_port, default=0, help="of the local page (default: a free one)")
    command.add_argument("--no-browser", action="store_true", help="only serve, open nothing")
    command.set_defaults(command=_view)


def _add_inspect(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("inspect", parents=[debug], help="look over a viewpoint set before training on it")
    command.add_argument("views", type=Path, metavar="VIEWS", help="views.npz")
    command.add_argument("--out", type=Path, metavar="DIR", help="folder for the picture (default: that of VIEWS)")
    command.set_defaults(command=_inspect)


def _add_store(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("store", parents=[debug], help="prepare MLflow's store for trainings side by side")
    command.set_defaults(command=_store)


def _add_sync(commands: "argparse._SubParsersAction[_Parser]", debug: "_Parser") -> None:
    command = commands.add_parser("sync", parents=[debug], help="deliver to MLflow what it did not take while down")
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder that training wrote")
    command.set_defaults(command=_sync)


def _add_named_views(command: argparse.ArgumentParser, option: str, required: bool, help: str) -> None:
    command.add_argument(
        option,
        type=_named_path,
        nargs="+",
        action="extend",
        required=required,
        default=[],
        metavar="NAME=VIEWS",
        help=help,
    )


def _extract(options: argparse.Namespace) -> None:
    _check_files(path for path in (options.mesh, options.like) if path is not None)
    _check_exists(options.source)

    from recon.capture.extract import extract
    from recon.inspection.inspect import look_over

    views = extract(
        options.source,
        options.out,
        set_name=options.set_name,
        mesh=options.mesh,
        like=options.like,
        light_cosine=options.light_cosine,
        object_name=options.object,
        color_space=options.color_space,
        sphere=options.sphere,
        size=options.size,
        hold_out=options.hold_out,
        marker=options.marker,
    )
    for line in look_over(views):
        print(f"recon: warning: {options.out}: {line}", file=sys.stderr)


def _keyframes(options: argparse.Namespace) -> None:
    _check_files([options.source])

    from recon.capture.extract import extract_keyframes

    extract_keyframes(options.source, options.out, options.set_name)


def _reference(options: argparse.Namespace) -> None:
    _check_files([options.source])

    from recon.capture.extract import write_reference

    write_reference(options.source, options.out, options.object)


def _train(options: argparse.Namespace) -> None:
    validation = _unique(options.validation, "--validation")
    _check_files([options.views, *validation.values()])

    from recon.config import load_config

    config = load_config(options.config, options.set)

    from recon.inspection.doubts import doubts
    from recon.report.viewer import write_run_viewer
    from recon.training.run import Options, train

    how = Options(options.max_minutes, options.quiet, options.name, options.restart, doubts, write_run_viewer)
    train(options.views, config, options.out, validation, how)


def _validate(options: argparse.Namespace) -> None:
    views = _unique(options.views, "--views")
    _check_folders([options.run])
    _check_files([*views.values(), *([options.reference] if options.reference else [])])

    from recon.evaluation.validate import validate

    validate(options.run, views, options.out, options.reference, options.tone)

    from recon.tracking import log_validation

    log_validation(options.run, options.out, views)


def _render(options: argparse.Namespace) -> None:
    _check_folders([options.run])
    path: str | Path = options.path
    if path != "turntable":
        path = Path(path)
        _check_files([path])

    from recon.relighting.lights import parse_light
    from recon.relighting.relight import Options, relight

    try:
        light = parse_light(options.light)
    except ValueError:
        raise ReconError(f"--light {options.light}: a point has three numbers, X,Y,Z") from None
    if isinstance(light, Path):
        _check_files([light])
    relight(
        options.run,
        path,
        light,
        options.out,
        Options(
            size=options.size,
            level=options.level,
            frames=options.frames,
            samples=options.samples,
            intensity=options.intensity,
            stops=options.exposure,
            backdrop=options.backdrop,
            linear=options.linear,
            rate=options.fps,
            quiet=options.quiet,
        ),
    )


def _report(options: argparse.Namespace) -> None:
    _check_folders(options.runs)

    from recon.report.publish import publish

    publish(options.runs, options.out)


def _view(options: argparse.Namespace) -> None:
    _check_exists(options.target)

    from recon.report.viewer import view

    view(options.target, options.port, not options.no_browser)


def _inspect(options: argparse.Namespace) -> None:
    _check_files([options.views])

    from recon.inspection.inspect import inspect

    inspect(options.views, options.out)


def _store(options: argparse.Namespace) -> None:
    from recon.tracking import initialise_store

    initialise_store()


def _sync(options: argparse.Namespace) -> None:
    _check_folders(options.runs)

    from recon.run_folder import RunFolder
    from recon.tracking import sync
    from recon.training.lock import locked

    for run in options.runs:
        with locked(run) if RunFolder(run).checkpoints.is_dir() else nullcontext():
            print(sync(run))


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: a name has letters, digits, '.', '_' and '-' only")
    return text


def _sphere(text: str) -> tuple[float, float, float, float]:
    try:
        x, y, z, radius = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: must be X,Y,Z,R: a centre and a radius") from None
    if not (math.isfinite(x + y + z + radius) and radius > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: must be finite, with a radius above 0")
    return x, y, z, radius


def _side(text: str) -> int:
    if not text.isdecimal() or not 16 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 16 to 4096")
    return int(text)


def _every(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 2 on")
    return int(text)


def _named_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise argparse.ArgumentTypeError(f"{text!r}: must have the form NAME=VIEWS")
    return _name(name), Path(path)


def _minutes(text: str) -> float:
    minutes = _number(text)
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a positive number of minutes")
    return minutes


def _picture_size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.lower())
    if found is None or "0" in (found[1].lstrip("0") or "0", found[2].lstrip("0") or "0"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be width and height in pixels, such as 640x480")
    return int(found[1]), int(found[2])


def _level(text: str) -> int:
    if not text.isdecimal() or int(text) > 7:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a level of the icosphere, from 0 to 7")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1 to 100000")
    return int(text)


def _positive(text: str) -> float:
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a positive number")
    return number


def _stops(text: str) -> float:
    stops = _number(text)
    if not -64 <= stops <= 64:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of stops, from -64 to 64")
    return stops


def _cosine(text: str) -> float:
    cosine = _number(text)
    if not -1 <= cosine < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a cosine, from -1 to less than 1")
    return cosine


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a port from 0 to 65535")
    return int(text)


def _unique(pairs: Iterable[tuple[str, Path]], option: str) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for name, path in pairs:
        if name in named:
            raise ReconError(f"{option}: the name '{name}' is given twice")
        named[name] = path
    return named


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise ReconError(f"{path}: no such file or folder")


def _check_files(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise ReconError(f"{path}: {'a folder; expected a file' if path.is_dir() else 'no such file'}")


def _check_folders(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.is_dir():
            raise ReconError(f"{path}: {'a file; expected the folder of a run' if path.exists() else 'no such folder'}")


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror}"
    return " ".join(str(error).split())


def _out_of_memory(error: Exception) -> str | None:
    """What to change where memory ran out; None where `error` is something else."""
    message = " ".join(str(error).split())
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        where, instead = "of the GPU", "; or take the CPU with CUDA_VISIBLE_DEVICES="
    elif isinstance(error, MemoryError) or "can't allocate memory" in message:
        where, instead = "of this machine", ""
    else:
        return None
    advice = "make less of it: smaller or fewer views, train.views_per_iteration, train.crop.size, train.levels"
    return f"out of memory {where} ({message.partition('. ')[0][:160]}); {advice}{instead}"


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


class _Parser(argparse.ArgumentParser):
    """argparse, with its errors in one line like every other, and points that begin with a minus as values."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"recon: error: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Prints the version of the code that runs. The distribution's may be another, where another is installed."""

    def __call__(self, parser: argparse.ArgumentParser, *ignored: object) -> NoReturn:
        print(__version__)
        parser.exit()

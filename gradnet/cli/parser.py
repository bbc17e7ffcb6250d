"""The command line: its flags, their types and their checks. Imports argparse and little else."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

TASKS = ("auto", "classification", "regression")
BACKENDS = ("auto", "numpy", "numba", "cuda")
PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "float64")
SUITES = ("step", "ops", "fit", "import", "scale", "memory", "all")

DATA = (
    "a built-in set (digits, iris, wine, breast_cancer, diabetes, xor, spirals), a .csv, .tsv, "
    ".parquet or .npz file, or a folder of IDX files"
)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.IGNORECASE)


class BadCall(Exception):
    """A command line that cannot be carried out; the message is one line for the user."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, raised as BadCall."""

    def error(self, message: str) -> NoReturn:
        raise BadCall(f"{message} (see {self.prog} --help)")

    @property
    def flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; those not given are None, or False for switches.

    Raises BadCall with one line for a line that is wrong, SystemExit for --help and --version.
    """
    parser = Parser(
        prog="gradnet",
        description="Train multilayer perceptrons on tables and images, and predict with them.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    makers = {
        "train": _train,
        "predict": _predict,
        "export": _export,
        "explain": _explain,
        "lectures": _lectures,
        "bench": _bench,
        "devices": _devices,
    }
    choices = parser.add_subparsers(
        dest="command", metavar="COMMAND", parser_class=Parser, title="commands"
    )
    commands = {name: make(choices) for name, make in makers.items()}
    if not arguments:
        parser.error(f"there is no command; expected {', '.join(commands)}")
    close = difflib.get_close_matches(arguments[0], commands, n=1, cutoff=0.6)
    if close and arguments[0] not in commands:
        parser.error(f"there is no command {arguments[0]!r}; did you mean {close[0]}?")
    if arguments[0] == "explain":
        # An expression may begin with a minus, which argparse would take for a flag.
        arguments = [f" {a}" if re.match(r"-(?!-|h$)", a) else a for a in arguments]
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        command = commands.get(options.command, parser)
        command.error(_unknown(unknown[0], command.flags))
    return options


def unwritten(flag: str, name: str) -> Path:
    """The file that a flag names. Raises BadCall where it exists: nothing is ever overwritten."""
    path = Path(name).expanduser()
    if path.exists():
        raise BadCall(
            f"{flag} {name}: this exists, and nothing is ever overwritten; give another name, or "
            "remove it"
        )
    return path


def _unknown(argument: str, flags: list[str]) -> str:
    if not argument.startswith("-"):
        return f"there is one argument too many: {argument!r}"
    close = difflib.get_close_matches(argument.partition("=")[0], flags, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"there is no flag {argument}{hint}"


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import gradnet

        print(f"gradnet {gradnet.__version__}")
        parser.exit()


def _train(choices: argparse._SubParsersAction[Parser]) -> Parser:
    parser = choices.add_parser(
        "train",
        help="train a network on data, test it and save it",
        description="Train a network on data, test it and save it.",
        epilog="What is not given is chosen by the task and the size of the data.",
        allow_abbrev=False,
    )
    parser.add_argument("data", metavar="DATA", help=DATA)

    add = parser.add_argument_group("data").add_argument
    add(
        "--target",
        metavar="COL",
        help="the column to predict (default: target, label, class or y, else the last)",
    )
    add("--task", choices=TASKS, help="default: auto, by the target's cells")
    add(
        "--validation",
        metavar="F|FILE",
        type=share,
        help="a fraction of the rows, or a file (default: 0.1)",
    )
    add(
        "--test",
        metavar="F|FILE",
        type=share,
        help="a fraction of the rows, or a file (default: the data's own test part, else 0.2)",
    )

    add = parser.add_argument_group("network").add_argument
    add("--hidden", metavar="N,N", type=hidden, help="units of each hidden layer; none for none")
    add("--activation", metavar="NAME", help="of the hidden units (default: relu)")
    add("--dropout", metavar="P", type=dropout, help="probability of dropping a hidden unit")

    add = parser.add_argument_group("training").add_argument
    add("--optimizer", metavar="NAME", help="such as adamw, adam, sgd, lion (default: adamw)")
    add("--lr", metavar="F", type=above_zero, help="learning rate")
    add("--weight-decay", metavar="F", type=weight_decay, help="weight decay")
    add("--epochs", metavar="N", type=count, help="passes over the training rows, at most")
    add("--batch-size", metavar="N", type=count, help="rows in a step")
    add(
        "--patience",
        metavar="N",
        type=patience,
        help="epochs without a better validation loss until it stops; 0 never stops early",
    )
    add("--seed", metavar="N", type=seed, help="the same seed gives the same run (default: 0)")

    add = parser.add_argument_group("machine").add_argument
    add("--device", metavar="auto|cpu|cuda|cuda:N", type=device, help="default: auto")
    add("--backend", choices=BACKENDS, help="default: auto")
    add(
        "--precision",
        choices=PRECISIONS,
        help="tf32 and 16 bits are for products, with float32 weights (default: float32)",
    )

    add = parser.add_argument_group("output").add_argument
    add("--out", metavar="DIR", help="where to save (default: a new folder in runs/)")
    add("--resume", metavar="DIR", help="go on with the run that was saved there")
    add("--plots", metavar="DIR", help="draw the pictures that fit the task, as PNG")
    add("--json", action="store_true", help="print the result as one JSON object, the last line")
    add("--quiet", action="store_true", help="only the result: no progress, no remarks")
    return parser


def _predict(choices: argparse._SubParsersAction[Parser]) -> Parser:
    parser = choices.add_parser(
        "predict",
        help="predict with a trained network",
        description="Predict with a trained network: a row of output for each row of data.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a folder that train saved, or a model file")
    parser.add_argument("data", metavar="DATA", help=f"{DATA}, with or without the target")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="a .csv, .tsv, .parquet or .npz file (default: CSV on standard output)",
    )
    return parser


def _export(choices: argparse._SubParsersAction[Parser]) -> Parser:
    parser = choices.add_parser(
        "export",
        help="write a trained network for other programs",
        description="Write a trained network, with its preprocessing, for other programs.",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a folder that train saved, or a model file")
    parser.add_argument(
        "--onnx", metavar="FILE", help="an ONNX file that takes raw columns and gives predictions"
    )
    parser.add_argument(
        "--torch", metavar="FILE", help="the weights as a safetensors file in PyTorch's layout"
    )
    return parser


def _bench(choices: argparse._SubParsersAction[Parser]) -> Parser:
    parser = choices.add_parser(
        "bench",
        help="measure gradnet beside its peers, in a checkout",
        description="Measure gradnet beside its peers: those of PyTorch, JAX and scikit-learn "
        "that are installed. Runs in a checkout.",
        allow_abbrev=False,
    )
    parser.add_argument("suite", metavar="SUITE", choices=SUITES, help=", ".join(SUITES))
    add = parser.add_argument
    add("--peers", metavar="LIST", type=names, help="such as torch,jax-scan (default: all)")
    add("--device", metavar="auto|cpu|cuda|cuda:N", type=device, default="auto", help="where")
    add("--json", metavar="FILE", help="write every figure to a file")
    add("--update", action="store_true", help="keep what FILE has of other suites and parts")
    add("--plots", metavar="DIR", help="draw pictures into a folder")
    add("--workloads", metavar="LIST", type=names, help="parts of the suite (default: all)")
    add("--rounds", metavar="N", type=count, help="rounds of each measurement")
    add("--seconds", metavar="F", type=above_zero, help="of a contender's turn in a round")
    return parser


def _devices(choices: argparse._SubParsersAction[Parser]) -> Parser:
    return choices.add_parser(
        "devices",
        help="try each backend and say what works here",
        description="Run a real operation on each backend: PASS, or FAIL with the remedy.",
        allow_abbrev=False,
    )


def _explain(choices: argparse._SubParsersAction[Parser]) -> Parser:
    parser = choices.add_parser(
        "explain",
        help="show how an expression is computed and differentiated",
        description="Show an expression's steps, their derivatives in forward and in backward "
        "mode, and the circuit with the value above and the gradient below each edge.",
        epilog="Example: gradnet explain '-y*log(sigmoid(w*x))' --at x=3,y=1,w=3",
        allow_abbrev=False,
    )
    parser.add_argument(
        "expression",
        metavar="EXPR",
        help="numbers, variables, + - * / ** @, and functions such as exp, sigmoid, max, sum",
    )
    parser.add_argument("--at", metavar="NAME=VALUE,...", help="values, such as x=3,w=[1,2]")
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="save the circuit (.svg, .png, .pdf, .dot) or all of it (.html, .md, .txt)",
    )
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument(
        "--engine", choices=("own", "graphviz"), default="own", help="what draws the circuit"
    )
    return parser


def _lectures(choices: argparse._SubParsersAction[Parser]) -> Parser:
    parser = choices.add_parser(
        "lectures",
        help="run the worked examples of the lectures",
        description="Run worked examples: what the lecture shows beside what is computed here.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "which",
        metavar="DECK|EXAMPLE",
        nargs="*",
        help="such as 3, 3.2 or all (default: list them)",
    )
    return parser


def number(
    text: str, expected: str, low: float, high: float, *, without: Sequence[float] = ()
) -> float:
    """A finite number in low ... high except `without`; raises ArgumentTypeError for others."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not low <= value <= high or math.isinf(value) or value in without:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return value


def whole(text: str, expected: str, low: int, high: int = 2**31 - 1) -> int:
    """A whole number in low ... high; raises ArgumentTypeError for others."""
    if not re.fullmatch(r"\d+", text) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """ "torch,jax" -> ("torch", "jax")."""
    if not re.fullmatch(r"[\w-]+(,[\w-]+)*", text):
        raise argparse.ArgumentTypeError(f"expected names with commas between, not {text!r}")
    return tuple(text.split(","))


def dropout(text: str) -> float:
    return number(text, "a probability P with 0 <= P < 1", 0.0, 1.0, without=(1.0,))


def above_zero(text: str) -> float:
    return number(text, "a number above 0", 0.0, math.inf, without=(0.0,))


def weight_decay(text: str) -> float:
    return number(text, "a number of at least 0", 0.0, math.inf)


def count(text: str) -> int:
    return whole(text, "a whole number of at least 1", 1)


def patience(text: str) -> int:
    return whole(text, "a whole number of at least 0", 0)


def seed(text: str) -> int:
    return whole(text, "a whole number from 0 to 2**64 - 1", 0, 2**64 - 1)


def hidden(text: str) -> tuple[int, ...]:
    """ "128,64" -> (128, 64), "none" -> ()."""
    if text == "none":
        return ()
    expected = "units of each hidden layer, such as 128,64, or none"
    if not re.fullmatch(r"\d+(,\d+)*", text) or not all(map(int, text.split(","))):
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return tuple(whole(units, expected, 1, 2**20) for units in text.split(","))


def share(text: str) -> float | str:
    """A fraction from 0 up to 1, or anything that is not a number: a file."""
    if not _NUMBER.fullmatch(text):
        return text
    return number(text, "a fraction F with 0 <= F < 1, or a file", 0.0, 1.0, without=(1.0,))


def device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:N, not {text!r}")
    return text

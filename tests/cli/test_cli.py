from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv.cli import explain as explain_command
from fastconv.cli import info as info_command
from fastconv.cli import main as command
from fastconv.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
EXPLAIN = ["explain", "conv2d", "--input", "1,8,12,12", "--weight", "4,8,3,3"]


def run(*arguments: str, **options):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fastconv", *arguments], cwd=ROOT, text=True, timeout=120, check=False, **options
    )


def one_line(text: str) -> str:
    assert text.count("\n") == 1
    assert text.endswith("\n")
    return text


def test_module_prints_version():
    done = run("--version", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fastconv {fc.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["explain", "--help"], ["info", "--help"]])
def test_help_exits_0(arguments, capsys):
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("usage: fastconv")


def test_explain_marks_the_chosen_row(capsys):
    assert main([*EXPLAIN, "--padding", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    chosen = fc.explain(fc.conv2d, (1, 8, 12, 12), (4, 8, 3, 3), padding=1).chosen
    assert [line.split()[1] for line in lines if line.startswith("> ")] == [chosen]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2", 2), ("1,2", (1, 2)), ("same_lower", "same_lower"), ("1,0,-2,3", ((1, 0), (-2, 3)))],
)
def test_explain_reads_padding(text, expected):
    assert explain_command._padding(text) == expected


def test_explain_passes_every_option_on(capsys):
    options = "--stride 2,1 --padding same --dilation 1,2 --groups 2 --layout channels_last --algorithm im2col"
    shapes = ["--input", "1,12,12,8", "--weight", "4,4,3,3"]
    assert main(["explain", "conv2d", *shapes, *options.split(), "--precision", "strict"]) == 0
    explanation = fc.explain(
        fc.conv2d,
        (1, 12, 12, 8),
        (4, 4, 3, 3),
        stride=(2, 1),
        padding="same",
        dilation=(1, 2),
        groups=2,
        layout="channels_last",
        algorithm="im2col",
        precision="strict",
    )
    assert capsys.readouterr().out == f"{explanation}\n"


def test_explain_measures(capsys):
    assert main(["explain", "pointwise_conv2d", "--input", "1,4,8,8", "--weight", "4,4", "--measure"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("> ")]
    # The last columns are the predicted and the measured time, the share of the roofline and the error.
    assert lines[1].split()[-6:] == ["predicted", "ms", "measured", "ms", "roof", "error"]
    assert float(row.split()[-3]) > 0


PHOTO = ["explain", "conv2d", "--input", "1,1,30,40", "--padding", "same", "--kernel"]


def test_explain_takes_named_kernels(capsys):
    assert main([*PHOTO, "gaussian:2.5", "--weight", "1,1,15,15"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"n1ic1h30w40_oc1k15s1p7: {30 * 40 * 225:,} multiply-accumulates")
    rows = {line[2:].split()[0]: line.split() for line in text.splitlines() if line[:2] in ("> ", "  ")}
    assert f"{30 * 40 * 225:,}" in rows["direct"]
    assert f"{30 * 40 * 30:,}" in rows["separable"]
    # A Laplacian is no product of a column and a row; of several channels each is filtered by itself.
    assert main(["explain", "conv2d", "--input", "1,3,30,40", "--kernel", "laplacian"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("n1ic3h30w40_oc3k3s1p0g3: ")
    assert "separable  refused: kernels must have rank 1" in text
    assert (
        main(["explain", "depthwise_conv2d", "--input", "30,40,3", "--kernel", "box:5", "--layout", "channels_last"])
        == 0
    )
    assert "oc3k5" in capsys.readouterr().out
    assert main([*PHOTO, "sobel", "--weight", "1,1,5,5"]) == 1
    assert "is 3 x 3, expected 5 x 5" in one_line(capsys.readouterr().err)
    assert main([*PHOTO, "sobol"]) == 1
    assert "expected one of sobel" in one_line(capsys.readouterr().err)


def test_explain_prints_json(capsys):
    assert main([*EXPLAIN, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == fc.explain(fc.conv2d, (1, 8, 12, 12), (4, 8, 3, 3)).to_dict()


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (
            "max_pool2d --input 1,8,12,12 --kernel-size 3 --stride 2 --padding 1 --ceil-mode",
            lambda: fc.explain(fc.max_pool2d, (1, 8, 12, 12), 3, 2, 1, ceil_mode=True),
        ),
        (
            "lp_pool1d --input 1,8,12 --kernel-size 3 --norm-type 2",
            lambda: fc.explain(fc.lp_pool1d, (1, 8, 12), 2.0, 3),
        ),
        (
            "separable_conv2d --input 1,8,12,12 --weight 8,1,3,3 --pointwise 4,8",
            lambda: fc.explain(fc.separable_conv2d, (1, 8, 12, 12), (8, 1, 3, 3), (4, 8)),
        ),
        (
            "spatially_separable_conv2d --input 1,8,12,12 --column 7 --row 5",
            lambda: fc.explain(fc.spatially_separable_conv2d, (1, 8, 12, 12), (7,), (5,)),
        ),
        (
            "interpolate --input 1,8,12,12 --scale-factor 1.5,2 --mode bilinear",
            lambda: fc.explain(fc.interpolate, (1, 8, 12, 12), None, (1.5, 2), "bilinear"),
        ),
        (
            "max_unpool2d --input 1,8,12,12 --kernel-size 2",
            lambda: fc.explain(fc.max_unpool2d, (1, 8, 12, 12), (1, 8, 12, 12), 2),
        ),
        (
            "conv2d_vjp --input 1,8,12,12 --weight 4,8,3,3",
            lambda: fc.explain(fc.grad.conv2d_vjp, (1, 4, 10, 10), (1, 8, 12, 12), (4, 8, 3, 3)),
        ),
        (
            "conv_transpose2d --input 1,8,12,12 --weight 8,4,3,3 --stride 2 --output-padding 1",
            lambda: fc.explain(fc.conv_transpose2d, (1, 8, 12, 12), (8, 4, 3, 3), stride=2, output_padding=1),
        ),
    ],
)
def test_explain_takes_every_operation(arguments, call, capsys):
    assert main(["explain", *arguments.split()]) == 0
    assert capsys.readouterr().out == f"{call()}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explain", "avg_pool2d", "--input", "1,8,4,4"],
        ["explain", "avg_pool2d", "--input", "1,8,4,4", "--kernel-size", "2", "--weight", "1,1,3,3"],
        ["explain", "conv1d", "--input", "1,1,9", "--kernel", "sobel"],
        ["explain", "conv2d", "--input", "1,1,9,9", "--kernel", "sobel", "--weight", "3,3"],
        ["explain", "conv2d", "--input", "1,1,9,9", "--kernel", "sobel", "--dilation", "x"],
        ["explain", "interpolate", "--input", "1,8,4,4", "--scale-factor", "a"],
        ["unknown"],
        ["info", "more"],
        ["explain", "conv2d"],
        ["explain", "conv9d", *EXPLAIN[2:]],
        [*EXPLAIN, "--stride", "a"],
        [*EXPLAIN, "--algorithm", "fastest"],
        ["explain", "pointwise_conv2d", "--input", "1,8,4,4", "--weight", "4,8", "--stride", "2"],
        ["demo", "--size", "3"],
        ["demo", "-o", "sheet.jpg"],
    ],
)
def test_wrong_arguments_exit_2_with_one_line(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--help" in one_line(captured.err)


@pytest.mark.parametrize("more", [["--groups", "3"], ["--algorithm", "pointwise"], ["--padding=-1"]])
def test_refused_problem_exits_1_with_its_message(more, capsys):
    assert main([*EXPLAIN, *more]) == 1
    assert one_line(capsys.readouterr().err).startswith("fastconv explain: conv2d: ")


def test_info_names_versions_and_cache(capsys):
    assert main(["info"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["fastconv"] == fc.__version__
    assert facts["numpy"] == np.__version__
    assert facts["threads"] == str(fc.get_num_threads())


@pytest.mark.parametrize(
    ("variables", "folder", "caching"),
    [
        ({"FASTCONV_DISABLE_CACHE": "1"}, "none", "off"),
        ({"FASTCONV_DISABLE_CACHE": "0", "FASTCONV_CACHE_DIR": "new"}, "new", "on"),
    ],
)
def test_info_tells_about_the_cache(variables, folder, caching, monkeypatch, tmp_path):
    from fastconv import _disk

    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _disk.root.cache_clear()
    try:
        shown, state = info_command.cache()
    finally:
        _disk.root.cache_clear()
    assert shown == (folder if folder == "none" else str(tmp_path / folder))
    assert state.split()[0] == caching


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.jpg"), "a.jpg: No such file or directory"),
        (ModuleNotFoundError("No module named 'PIL'", name="PIL"), 'PIL is missing; pip install "fastconv[demo]"'),
        (ModuleNotFoundError("x", name="matplotlib.figure"), 'matplotlib is missing; pip install "fastconv[demo]"'),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
    ],
)
def test_errors_have_one_line(error, expected, monkeypatch, capsys):
    def fail(arguments):
        raise error

    monkeypatch.setattr(command, "run", fail)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == f"fastconv demo: {expected}\n"


def test_interrupt_exits_130_and_is_quiet(monkeypatch, capsys):
    def interrupt(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupt)
    assert main(["demo"]) == 130
    assert capsys.readouterr() == ("", "")


def open_when_read(pipe: Path) -> int:
    """Open a named pipe for writing as soon as somebody reads from it."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals of this kind")
def test_interrupted_process_is_quiet(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    # The signal arrives while the command waits for the picture.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = subprocess.Popen(
        [sys.executable, "-m", "fastconv", "demo", str(pipe), "-o", str(tmp_path / "sheet.png")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    writer = open_when_read(pipe)
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    output = child.communicate(timeout=60)
    os.close(writer)
    assert (child.returncode, output) == (130, (b"", b""))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes of this kind")
def test_broken_pipe_is_quiet():
    read, write = os.pipe()
    os.close(read)
    try:
        done = run("info", stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_bench_forwards_its_arguments(monkeypatch):
    module = type(sys)("fastconv.benchmarks.run")
    module.main = lambda arguments: 0 if arguments == ["--suite", "vgg16", "--help"] else 1
    package = type(sys)("fastconv.benchmarks")
    package.run = module
    monkeypatch.setitem(sys.modules, "fastconv.benchmarks", package)
    monkeypatch.setitem(sys.modules, "fastconv.benchmarks.run", module)
    assert main(["bench", "--suite", "vgg16", "--help"]) == 0


def test_bench_names_its_extra(monkeypatch, capsys):
    package = type(sys)("fastconv.benchmarks")
    package.run = type(sys)("fastconv.benchmarks.run")

    def need(arguments):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    package.run.main = need
    monkeypatch.setitem(sys.modules, "fastconv.benchmarks", package)
    assert main(["bench"]) == 1
    assert capsys.readouterr().err == 'fastconv bench: torch is missing; pip install "fastconv[bench]"\n'

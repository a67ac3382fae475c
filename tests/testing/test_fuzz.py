"""The fuzzer: what it draws, that it finds seeded bugs and makes them small, crashes, and the command line.

The operations are put in place by their definitions, right or wrong, so nothing is compiled.
"""

from __future__ import annotations

import inspect
import json
import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import fuzz
from fastconv.testing.fuzz import __main__ as command
from fastconv.testing.fuzz import memory, moving, running
from fastconv.testing.fuzz.case import MEMORIES, Array, Case, parse
from fastconv.testing.fuzz.check import OPS, check
from fastconv.testing.fuzz.draw import PACE, WRITABLE, known_dtypes
from fastconv.testing.fuzz.running import chosen, drawn
from fastconv.testing.fuzz.wanted import Wanted, difference
from tests import guard

# Of those that take arrays, those that only look at shapes, search for factors, or are plans for whole networks.
UNDRAWN = {"count_ops", "explain", "separate", "receptive_field", "warmup"}
OP = "nearest_unpool2d"


def definition(**a):
    """nearest_unpool2d by its definition."""
    out = a.pop("out", None)
    if a["input"] is None:
        raise fc.DtypeError("nearest_unpool2d: input = None")
    (wanted,) = moving.expect(OP, a | {"input": np.asarray(a["input"], order="C")})
    result = wanted.value.astype(wanted.value.dtype.newbyteorder("="))
    if out is None:
        return result
    out[...] = result
    return out


@pytest.fixture
def replace(monkeypatch):
    """Return what puts a function in the place of nearest_unpool2d; no argument is spoilt."""
    monkeypatch.setattr("fastconv.testing.fuzz.running._FLAWED", 0)
    return lambda function: monkeypatch.setattr(fc, OP, function)


def found(problems=80):
    report = fuzz.run(problems=problems, ops=OP, isolated=False)
    assert report.failures, str(report)
    one = report.failures[0]
    # The line that is printed leads to the same failure.
    assert fuzz.replay(one.case, isolated=False) == one.text
    assert str(parse(one.case)) == one.case
    assert one.case in one.reproducer
    assert one.reproducer in str(report)
    return parse(one.case), one.text


def test_draws_follow_from_the_seed():
    names = tuple(OPS)
    texts = [str(drawn(3, i, names)) for i in range(150)]
    assert texts == [str(drawn(3, i, names)) for i in range(150)]
    assert len(set(texts)) == len(texts)
    assert texts != [str(drawn(4, i, names)) for i in range(150)]


def test_every_operation_is_drawn_and_read_back():
    for i, op in enumerate(OPS):
        for case in (drawn(i, 2 * i, (op,)), drawn(i, 10 * PACE, (op,))):
            assert case.op == op
            assert parse(str(case)) == case


def test_every_public_operation_is_known():
    names = {n for n in fc.__all__ if n[0].islower() and inspect.isfunction(getattr(fc, n))}
    missing = {n for n in names if "input" in inspect.signature(getattr(fc, n)).parameters} - set(OPS)
    for module in ("signal", "ndimage", "activations"):
        missing |= {f"{module}.{n}" for n in getattr(fc, module).__all__} - set(OPS)
    assert missing - UNDRAWN == {"signal.choose_conv_method"}


def test_fuzzer_is_loaded_when_it_is_asked_for():
    code = "import sys, fastconv as fc; fc.testing; print('fastconv.testing.fuzz' in sys.modules, fc.testing.fuzz.run)"
    assert guard.run(code).startswith("False <function run")
    with pytest.raises(AttributeError, match="no attribute 'fuz'"):
        fc.testing.fuz  # noqa: B018


def test_long_runs_meet_all_dtypes():
    assert len(known_dtypes(0, 0)) == 2
    assert {"float64", "float16", "int8", "complex64"} <= set(known_dtypes(0, 20 * PACE))
    assert len({known_dtypes(seed, 0) for seed in range(20)}) > 5


def test_right_operations_pass(replace):
    replace(lambda **a: definition(**a))
    report = fuzz.run(problems=60, ops=OP, isolated=False)
    assert report.outcomes == {"equal": 60}
    assert not report.failures
    assert report.ops == {OP: 60}
    assert json.loads(json.dumps(report.to_dict()))["problems"] == 60


def test_one_wrong_element_is_found_and_made_small(replace):
    def wrong(**a):
        result = definition(**a)
        if result.shape[-1] > 7 and a.get("layout") == "channels_last":
            result[..., 7] += 1
        return result

    replace(wrong)
    case, text = found()
    assert text.startswith("result: ")
    assert case.arguments["layout"] == "channels_last"
    assert case.arrays["input"].shape[-1] == 8
    assert set(case.arrays["input"].shape[:-1]) == {1}
    assert case.arrays.keys() == {"input"}
    assert case.threads == 1


def test_changed_inputs_are_found(replace):
    def wrong(**a):
        result = definition(**a)
        x = a["input"]
        if result.shape[0] > 1 and isinstance(x, np.ndarray) and x.flags.writeable and x.size:
            x[(0,) * x.ndim] = 9
        return result

    replace(wrong)
    case, text = found()
    assert text.startswith("memory: memory of or around input")
    assert case.arrays["input"].size == 2


def test_other_errors_are_found(replace):
    def wrong(**a):
        if isinstance(a["input"], list):
            raise ValueError("a list")
        return definition(**a)

    monkey = fuzz.Case(OP, {"input": Array("float64", (1, 1, 2, 2), "list"), "scale_factor": 2})
    replace(wrong)
    with pytest.raises(fuzz.MismatchError, match="raised ValueError: ValueError: a list"):
        check(monkey)


def test_writes_beside_out_and_results_elsewhere_are_found(replace):
    def beside(**a):
        out = a.get("out")
        if out is not None and out.flags.c_contiguous and out.size:
            # One element too many, where another array may lie.
            np.ndarray(1, out.dtype, out.base, offset=64 + out.nbytes)[0] = 3
        return definition(**a)

    x, out = Array("float32", (1, 1, 2, 2)), Array("float32", (1, 1, 4, 4))
    case = fuzz.Case(OP, {"input": x, "scale_factor": 2, "out": out})
    for function, text in (
        (beside, "memory: memory of or around out"),
        (lambda **a: definition(**a).copy(), "out: the result is not out"),
    ):
        replace(function)
        with pytest.raises(fuzz.MismatchError, match=text):
            check(case)
    replace(lambda **a: a["input"])
    with pytest.raises(fuzz.MismatchError, match="the result lies in the memory of input"):
        check(fuzz.Case(OP, {"input": Array("float32", (1, 1, 2, 2)), "scale_factor": 1}))


def test_bits_that_depend_on_threads_are_found(replace):
    case = fuzz.Case(OP, {"input": Array("float32", (1, 3, 9, 9)), "scale_factor": 1}, 0, 2)
    replace(lambda **a: definition(**a))
    assert check(case) == "equal"
    # The sign of zeros is no part of the comparison, but of the bits.
    replace(lambda **a: np.where(definition(**a) == 0, np.float32(1.5 - fc.get_num_threads()) * 0, definition(**a)))
    with pytest.raises(fuzz.MismatchError, match="2 threads make other bits than one"):
        check(case)


@pytest.mark.parametrize("error", [None, ValueError("no"), fc.ShapeError("two\nlines")])
def test_flaws_must_be_refused_in_the_right_way(replace, error):
    def wrong(**a):
        if error is None:
            return np.zeros(3)
        raise error

    case = fuzz.Case(OP, {"input": None, "scale_factor": 2}, flaw="input")
    replace(wrong)
    with pytest.raises(fuzz.MismatchError, match="accepted: input = None" if error is None else "instead of an error"):
        check(case)
    replace(definition)
    assert check(case) == "raised"


def test_arguments_that_nothing_takes_are_refused_by_the_operations(monkeypatch):
    # Refused before any kernel is needed.
    monkeypatch.setattr("fastconv.testing.fuzz.running._FLAWED", 1)
    ops = [op for op in OPS if not op.startswith(("signal.", "ndimage.", "activations."))]
    cases = [drawn(i, i, ops) for i in range(120)]
    assert len({case.op for case in cases}) > 40
    assert len({case.flaw for case in cases}) > 12
    assert {check(case) for case in cases} == {"raised"}


@pytest.mark.parametrize("kind", [kind for kind in MEMORIES if kind not in ("broadcast", "list")])
def test_memory_holds_the_same_elements(kind):
    case = Case("x", {"a": Array("float32", (2, 3, 4), kind, "normal")}, 5)
    plain, _ = memory.arguments(case.replaced(a=case.arrays["a"]._replace(memory="plain")))
    made, placed = memory.arguments(case)
    np.testing.assert_array_equal(made["a"], plain["a"])
    assert not memory.touched(placed, "out")
    if kind in WRITABLE:
        made["a"][1, 2, 3] += 1
        assert memory.touched(placed, "out") == "a"
        assert not memory.touched(placed, "a")
    flags = made["a"].flags
    assert flags.aligned == (kind != "unaligned")
    assert flags.writeable == (kind != "readonly")
    assert made["a"].dtype.isnative == (kind != "swapped")
    assert flags.c_contiguous == (kind in ("plain", "swapped", "unaligned", "readonly"))


def test_arrays_in_the_memory_of_others():
    case = Case("x", {"a": Array("float32", (2, 3)), "out": Array("float32", (4,), "over:a", "poison")}, 4)
    made, placed = memory.arguments(case)
    assert np.shares_memory(made["a"], made["out"])
    made["out"][...] = 5
    assert not memory.touched(placed, "out")
    assert memory.touched(placed, "")


def test_comparison_of_results():
    one = np.float32([1, np.nan, np.inf, 0])
    assert not difference(one, Wanted(one.astype("f8"), one.dtype))
    assert not difference(one * np.float32(1.001), Wanted(one.astype("f8"), one.dtype, 0.01))
    assert "1 of 4 elements differ" in difference(one + np.float32([0, 0, 0, 1]), Wanted(one, bound=0.5))
    assert "4 of 4" in difference(one[::-1], Wanted(one))
    assert not difference(one[::-1], Wanted(one, free=np.ones(4, bool)))
    assert "expected shape (4,), dtype float64" in difference(one, Wanted(one.astype("f8")))
    assert "got NoneType" in difference(None, Wanted(one))
    assert not difference(None, Wanted(None))
    assert "got ndarray" not in difference(np.int32([1]), Wanted(np.int32([1])))
    assert "expected 2" in difference(np.int32([1]), Wanted(np.int32([2])))


@pytest.mark.parametrize(
    "text",
    ["conv2d n1ic2h5w5_oc3k3s1p1 seed=4 threads=2", "conv1d n1ic2w5_oc3k3s1pl1pr0_nhwc input=/stepped/normal",
     "conv2d input=float16(1,2,5) weight=float16(3,2,3,3)/reversed padding=1 out=float16(1,3,5,5)/over:weight/poison",
     "lp_pool1d input=float32(3,9) norm_type=1e999 kernel_size=(2,) flaw=input", "signal.sepfir2d input=float32(3,3)"],
)  # fmt: skip
def test_lines_are_read_as_they_are_printed(text):
    assert str(parse(text)) == text


def test_what_cannot_be_run_is_refused():
    for ops in ("conv4d", ["conv2d", "nothing"]):
        with pytest.raises(fc.OptionError, match="run: ops = "):
            fuzz.run(ops=ops, problems=1, isolated=False)
    with pytest.raises(fc.OptionError, match="run: device = 'abacus'"):
        fuzz.run(device="abacus", problems=1, isolated=False)
    assert chosen("max_pool2d,ndimage.sobel") == ("max_pool2d", "ndimage.sobel")
    assert len(chosen("conv")) == 6
    for text in ("conv2d n1", "conv2d padding=(", "conv2d seed=x"):
        with pytest.raises(fc.OptionError):
            parse(text)


def test_command_line(replace, capsys, tmp_path):
    replace(lambda **a: definition(**a))
    assert command.main(["--problems", "5", "--op", OP, "--here", "--json", str(tmp_path / "report.json")]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["outcomes"] == {"equal": 5}
    assert "5 problems" in capsys.readouterr().out
    line = f"{OP} input=float32(1,1,1,2) scale_factor=1"
    assert command.main(["--replay", line, "--here"]) == 0
    replace(lambda **a: definition(**a) + np.float32(1))
    assert command.main(["--replay", line, "--here"]) == 1
    assert command.main(["--problems", "3", "--op", OP, "--here"]) == 1
    assert "FAILED result" in capsys.readouterr().out
    assert command.main(["--op", "nothing", "--here"]) == 2
    assert command.main(["--replay", "nothing", "--here"]) == 2


# Instead of the fuzzer's process: it runs two problems, and does something else at the third; a replay does that, too.
CHILD = """
import json, os, sys, time
if "--replay" not in sys.argv:
    first, line = int(sys.argv[sys.argv.index("--work") + 1]), "nearest_unpool2d input=float32(1,1,2) scale_factor=2"
    for i in range(first, 5):
        print(json.dumps([i]), flush=True)
        if i == 2:
            {what}
        print(json.dumps([line, "equal", None]), flush=True)
else:
    {what}
"""


@pytest.mark.parametrize(
    ("what", "text"),
    [("os._exit(9)", "crash: the process ended with status 9"), ("time.sleep(9)", "hang: no result after 0 s")],
)
def test_problems_that_end_or_stop_the_process_are_reported(monkeypatch, what, text):
    def start(options):
        command = [sys.executable, "-S", "-c", CHILD.format(what=what), *options]
        return running.subprocess.Popen(command, stdout=-1, text=True)

    monkeypatch.setattr(running, "_start", start)
    monkeypatch.setattr(running, "_CRASH_SECONDS", 0.2)
    report = fuzz.run(problems=5, ops=OP, hang=0.4 if "sleep" in what else 60)
    assert report.problems == 5
    assert report.outcomes == {"equal": 4, "failed": 1}
    assert [one.text for one in report.failures] == [text]
    assert fuzz.replay(report.failures[0].case, hang=0.4 if "sleep" in what else 60) == text

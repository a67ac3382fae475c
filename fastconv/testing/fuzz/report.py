"""What a run of the fuzzer found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

COMMAND = "python -m fastconv.testing.fuzz"


@dataclass
class Found:
    """A failure: what is wrong, the smallest case that shows it, and the case that was drawn."""

    text: str
    case: str
    drawn: str

    def __str__(self) -> str:
        return f"FAILED {self.text}\n  drawn as: {self.drawn}\n  {self.reproducer}"

    @property
    def reproducer(self) -> str:
        """The command that shows the failure again."""
        return f'{COMMAND} --replay "{self.case}"'


@dataclass
class Report:
    """Counts of what was run, and the failures.

    Attributes
    ----------
    problems : int
    seconds : float
    outcomes, ops, dtypes, algorithms, modes, memories : Counter
        How many problems were equal, refused with a reason, or raised as they must; how many there were of each
        operation, of each dtype of the first array, of each algorithm, padding mode, and kind of memory.
    failures : list of Found
    """

    seed: int = 0
    problems: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    algorithms: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    memories: Counter[str] = field(default_factory=Counter)
    failures: list[Found] = field(default_factory=list)

    def count(self, case: Any, outcome: str) -> None:
        """Count a case."""
        self.problems += 1
        self.outcomes[outcome] += 1
        self.ops[case.op] += 1
        arrays = list(case.arrays.values())
        self.dtypes[arrays[0].dtype if arrays else "none"] += 1
        self.memories.update({array.memory.partition(":")[0] for array in arrays})
        if "conv" in case.op and "." not in case.op:
            self.algorithms[str(case.arguments.get("algorithm", "auto"))] += 1
            self.modes[str(case.arguments.get("padding_mode", "zeros"))] += 1

    def to_dict(self) -> dict[str, Any]:
        """Return the report in plain types."""
        counters = {name: dict(value.most_common()) for name, value in vars(self).items() if isinstance(value, Counter)}
        failures = [vars(found) | {"reproducer": found.reproducer} for found in self.failures]
        return (
            {"seed": self.seed, "problems": self.problems, "seconds": self.seconds} | counters | {"failures": failures}
        )

    def __str__(self) -> str:
        rate = self.problems / max(self.seconds, 1e-9)
        lines = [f"{self.problems} problems in {self.seconds:.0f} s ({rate:.0f} a second), seed {self.seed}"]
        for name in ("outcomes", "ops", "dtypes", "algorithms", "modes", "memories"):
            counter = getattr(self, name)
            lines.append(f"  {name}: {', '.join(f'{key} {n}' for key, n in counter.most_common())}")
        lines += map(str, self.failures)
        return "\n".join([*lines, f"{len(self.failures)} failures"])

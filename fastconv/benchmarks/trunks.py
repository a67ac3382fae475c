"""The convolutions of whole networks, batch 1: each distinct layer is timed once and counts as often as it occurs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastconv.benchmarks.measure import OURS, measure
from fastconv.benchmarks.problems import layer
from fastconv.benchmarks.report import Table, time_text
from fastconv.benchmarks.rivals import RIVALS

PEERS = ("torch", "onnxruntime", "openvino")

# Count x sizes; the networks are those of problems.py.
_TEXTS = {
    "vgg16": """
1 n1ic3h224w224_oc64k3s1p1 1 n1ic64h224w224_oc64k3s1p1 1 n1ic64h112w112_oc128k3s1p1 1 n1ic128h112w112_oc128k3s1p1
1 n1ic128h56w56_oc256k3s1p1 2 n1ic256h56w56_oc256k3s1p1 1 n1ic256h28w28_oc512k3s1p1 2 n1ic512h28w28_oc512k3s1p1
3 n1ic512h14w14_oc512k3s1p1
""",
    "resnet50": """
1 n1ic3h224w224_oc64k7s2p3 1 n1ic64h56w56_oc64k1s1p0 3 n1ic64h56w56_oc64k3s1p1 4 n1ic64h56w56_oc256k1s1p0
2 n1ic256h56w56_oc64k1s1p0 1 n1ic256h56w56_oc128k1s1p0 1 n1ic128h56w56_oc128k3s2p1 3 n1ic128h28w28_oc128k3s1p1
4 n1ic128h28w28_oc512k1s1p0 3 n1ic512h28w28_oc128k1s1p0 1 n1ic256h56w56_oc512k1s2p0 1 n1ic512h28w28_oc256k1s1p0
1 n1ic256h28w28_oc256k3s2p1 5 n1ic256h14w14_oc256k3s1p1 6 n1ic256h14w14_oc1024k1s1p0 5 n1ic1024h14w14_oc256k1s1p0
1 n1ic512h28w28_oc1024k1s2p0 1 n1ic1024h14w14_oc512k1s1p0 1 n1ic512h14w14_oc512k3s2p1 2 n1ic512h7w7_oc512k3s1p1
3 n1ic512h7w7_oc2048k1s1p0 2 n1ic2048h7w7_oc512k1s1p0 1 n1ic1024h14w14_oc2048k1s2p0
""",
    "mobilenet": """
1 n1ic3h224w224_oc32k3s2p1 1 n1ic32h112w112_oc32k3s1p1g32 1 n1ic32h112w112_oc64k1s1p0
1 n1ic64h112w112_oc64k3s2p1g64 1 n1ic64h56w56_oc128k1s1p0 1 n1ic128h56w56_oc128k3s1p1g128
1 n1ic128h56w56_oc128k1s1p0 1 n1ic128h56w56_oc128k3s2p1g128 1 n1ic128h28w28_oc256k1s1p0
1 n1ic256h28w28_oc256k3s1p1g256 1 n1ic256h28w28_oc256k1s1p0 1 n1ic256h28w28_oc256k3s2p1g256
1 n1ic256h14w14_oc512k1s1p0 5 n1ic512h14w14_oc512k3s1p1g512 5 n1ic512h14w14_oc512k1s1p0
1 n1ic512h14w14_oc512k3s2p1g512 1 n1ic512h7w7_oc1024k1s1p0 1 n1ic1024h7w7_oc1024k3s1p1g1024
1 n1ic1024h7w7_oc1024k1s1p0
""",
}

TRUNKS: dict[str, dict[str, int]] = {
    name: dict(zip(text.split()[1::2], map(int, text.split()[::2]), strict=True)) for name, text in _TEXTS.items()
}


def run(progress: Callable[[list[Any]], Any], counts: list[int], repeats: int) -> dict[str, Any]:
    """Return a record for each distinct layer of each network and number of threads."""
    peers = [RIVALS[name] for name in PEERS if RIVALS[name].available()]
    work = [(n, network, text, count) for n in counts for network in TRUNKS for text, count in TRUNKS[network].items()]
    records = []
    for n, network, text, count in progress(work):
        records.append(measure(layer(text), peers, n, repeats) | {"network": network, "count": count})
    return {"suite": "trunks", "results": records}


def table(found: dict[str, Any]) -> tuple[Table, list[str]]:
    """Return the table of the sums, and lines about layers that were wrong."""
    sums: dict[tuple[str, int], dict[str, float]] = {}
    lines = []
    for record in found["results"]:
        if record["gate"] != "green":
            lines.append(f"WRONG RESULT, not counted: {record['problem']}: {record['gate']}")
            continue
        one = sums.setdefault((record["network"], record["threads"]), {})
        for who, seconds in record["seconds"].items():
            one[who] = one.get(who, 0.0) + record["count"] * seconds
    peers = [who for who in PEERS if any(who in one for one in sums.values())]
    rows: Table = [("network", "threads", *OURS, *(cell for peer in peers for cell in (peer, "ratio", "plan ratio")))]
    for (network, threads), one in sums.items():
        cells = [time_text(one.get(own)) for own in OURS]
        for peer in peers:
            cells += [time_text(one.get(peer)), *(f"{one[peer] / one[own]:.2f}" for own in OURS)]
        rows.append((network, str(threads), *cells))
    return rows, lines

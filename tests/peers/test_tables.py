"""The tables that are printed."""

from peers.caller import Reply
from peers.cases import Burst, Deadline, Poisoned, Stopped, statuses
from peers.misbehaviour_table import ROWS, Behaviour
from peers.misbehaviour_table import table as misbehaviour_table
from peers.server_process import Ending
from peers.speed_table import Speed
from peers.speed_table import table as speed_table
from service.benchmark.load import Load
from service.benchmark.samples import Summary
from service.benchmark.serve_report import Row

WELL = Behaviour(
    "a server 1.0",
    malformed={"empty": Reply(422, 0.0), "bomb": Reply(500, 0.0)},
    is_well_after=True,
    poisoned=Poisoned(mates=21, answered=14, poison=(500, 500, None)),
    vanished_run=16,
    burst=Burst(72, (Reply(429, 0.01, {"retry-after": "1"}), Reply(503, 0.04)), (Reply(None, 40.0),)),
    deadline=Deadline(Reply(504, 0.301), times_run=0),
    stopped=Stopped(24, Ending(0, 1.24, 3)),
)


def test_each_question_has_a_row_and_each_server_a_column() -> None:
    lines = misbehaviour_table([WELL, Behaviour("another 2.0")]).splitlines()
    assert lines[0] == "|  | a server 1.0 | another 2.0 |"
    assert len(lines) == 2 + len(ROWS)
    cells = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1] for line in lines[2:]}
    assert cells["2: mates of a poisonous upload answered with 200"] == "14 of 21"
    assert cells["3: uploads run whose callers had hung up"] == "16 of 16"
    assert cells["4: burst of 400: accepted / refused"] == "72 / 2, none × 1"
    assert cells["4: refusals with Retry-After"] == "1 of 2"
    assert cells["4: slowest refusal"] == "40 ms"
    assert cells["5: a deadline of 300 ms behind 1 s of work"] == "504 after 301 ms"
    assert cells["5: was it run"] == "no"
    assert cells["6: how it ended"] == "exit 0, 1.2 s"
    assert cells["6: orphan processes"] == "3"
    assert cells["malformed requests: server errors (5xx)"] == "1: bomb"


def test_a_server_that_could_not_be_run_is_a_line_with_the_reason() -> None:
    text = misbehaviour_table([WELL, Behaviour("another 2.0", fault="no wheel")])
    assert text.splitlines()[0] == "|  | a server 1.0 |"
    assert text.endswith("another 2.0 could not be run: no wheel\n")


def test_statuses_are_counted_those_without_first() -> None:
    assert statuses([Reply(500, 0), Reply(None, 0), Reply(500, 0)]) == "none × 1, 500 × 2"


def row(throughput: float) -> Row:
    seen = Summary(
        throughput=throughput,
        p50_ms=10.0,
        p95_ms=20.0,
        p99_ms=30.0,
        answered=100,
        refused=2,
        failed=1,
        received_bytes=9,
    )
    load = Load(
        callers=8, rate=None, seen=seen, is_steady=True, windows=(1.0,), answered_in_all=100, generator_cpu_s=0.1
    )
    return Row(load=load, share=None, cpu_s=5.0, peak_bytes=2**20)


def test_servers_stand_beside_each_other_under_each_load_with_their_ratio_to_the_plain_handler() -> None:
    ours = Speed(name="ours", label="ours 1", device="cpu float32", rows=(row(30.0),), ready_s=2.0, orphans=0)
    plain = Speed(name="plain", label="plain 2", device="cpu bfloat16", rows=(row(20.0),), ready_s=1.0)
    broken = Speed(name="ray", label="ray 3", fault="it ended with exit code 1")
    lines = speed_table([ours, plain, broken], None).splitlines()
    assert lines[4] == "| 8 callers | ours 1 | 30.0 | 1.50 | – | 10.0 | 30.0 | 2 | 1 | 0.0500 | 1 |"
    assert lines[5].startswith("| 8 callers | plain 2 | 20.0 | 1.00 |")
    assert lines[7:] == [
        "- ours 1: cpu float32; first answer after 2.0 s; processes left after SIGTERM: 0.",
        "- plain 2: cpu bfloat16; first answer after 1.0 s; had to be killed after SIGTERM.",
        "- ray 3: it ended with exit code 1",
    ]

"""What servers did with callers who misbehave, as one Markdown table: a row for each question, a column a server."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from peers.caller import Reply
from peers.cases import BURST, HANG_UPS, IN_FLIGHT, Burst, Deadline, Poisoned, Stopped, statuses

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """All that was seen of one server; or `fault`, why it could not be run, and then nothing else."""

    label: str
    fault: str = ""
    malformed: Mapping[str, Reply] | None = None
    is_well_after: bool | None = None
    poisoned: Poisoned | None = None
    vanished_run: int | None = None
    burst: Burst | None = None
    deadline: Deadline | None = None
    stopped: Stopped | None = None


def table(behaviours: Sequence[Behaviour]) -> str:
    """Return the table, and below it a line for each server that could not be run."""
    ran = [one for one in behaviours if not one.fault]
    lines = [_row("", [one.label for one in ran]), _row("---", ["---"] * len(ran))]
    lines += [_row(question, [answer(one) for one in ran]) for question, answer in ROWS.items()]
    faults = [f"{one.label} could not be run: {one.fault}" for one in behaviours if one.fault]
    return "\n".join([*lines, *(f"\n{fault}" for fault in faults)]) + "\n"


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _mates(one: Behaviour) -> str:
    return f"{one.poisoned.answered} of {one.poisoned.mates}" if one.poisoned else NOTHING


def _poison(one: Behaviour) -> str:
    return ", ".join(sorted({str(status or "none") for status in one.poisoned.poison})) if one.poisoned else NOTHING


def _vanished(one: Behaviour) -> str:
    return NOTHING if one.vanished_run is None else f"{one.vanished_run} of {HANG_UPS}"


def _burst(one: Behaviour) -> str:
    if one.burst is None:
        return NOTHING
    others = f", {statuses(one.burst.others)}" if one.burst.others else ""
    return f"{one.burst.accepted} / {len(one.burst.refused)}{others}"


def _refusals(one: Behaviour) -> str:
    if one.burst is None or not one.burst.refused:
        return NOTHING
    return ", ".join(sorted({str(reply.status) for reply in one.burst.refused}))


def _retry_after(one: Behaviour) -> str:
    if one.burst is None or not one.burst.refused:
        return NOTHING
    return f"{one.burst.say_when_to_retry} of {len(one.burst.refused)}"


def _slowest_refusal(one: Behaviour) -> str:
    slowest = one.burst.slowest_refusal_ms if one.burst else None
    return NOTHING if slowest is None else f"{slowest:.0f} ms"


def _deadline(one: Behaviour) -> str:
    if one.deadline is None:
        return NOTHING
    return f"{one.deadline.reply.status or 'none'} after {1000 * one.deadline.reply.seconds:.0f} ms"


def _late_run(one: Behaviour) -> str:
    return NOTHING if one.deadline is None else ("yes" if one.deadline.times_run else "no")


def _drained(one: Behaviour) -> str:
    return f"{one.stopped.answered} of {IN_FLIGHT}" if one.stopped else NOTHING


def _ending(one: Behaviour) -> str:
    if one.stopped is None:
        return NOTHING
    ending = one.stopped.ending
    how = "had to be killed" if ending.exit_code is None else f"exit {ending.exit_code}"
    return f"{how}, {ending.seconds:.1f} s"


def _orphans(one: Behaviour) -> str:
    if one.stopped is None or one.stopped.ending.exit_code is None:
        return NOTHING
    return str(one.stopped.ending.orphans)


def _malformed(one: Behaviour) -> str:
    return statuses(list(one.malformed.values())) if one.malformed else NOTHING


def _server_errors(one: Behaviour) -> str:
    if one.malformed is None:
        return NOTHING
    names = [name for name, reply in one.malformed.items() if reply.status is not None and reply.status >= 500]
    return f"{len(names)}: {', '.join(names)}" if names else "0"


def _is_well(one: Behaviour) -> str:
    return "yes" if one.is_well_after else "no"


ROWS: dict[str, Callable[[Behaviour], str]] = {
    "2: mates of a poisonous upload answered with 200": _mates,
    "2: what the poisonous upload got": _poison,
    "3: uploads run whose callers had hung up": _vanished,
    f"4: burst of {BURST}: accepted / refused": _burst,
    "4: status of the refusals": _refusals,
    "4: refusals with Retry-After": _retry_after,
    "4: slowest refusal": _slowest_refusal,
    "5: a deadline of 300 ms behind 1 s of work": _deadline,
    "5: was it run": _late_run,
    "6: SIGTERM: in flight, answered with 200": _drained,
    "6: how it ended": _ending,
    "6: orphan processes": _orphans,
    "malformed requests: statuses": _malformed,
    "malformed requests: server errors (5xx)": _server_errors,
    "a sound upload is answered after them": _is_well,
}

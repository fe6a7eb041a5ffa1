"""The Dockerfiles and Compose files hold what docs/operations.md promises. Images are built elsewhere."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from types import MappingProxyType
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from service.api.exchange import SANE_TOKEN
from service.api.protocol import MAX_HEAD_BYTES
from service.api.schemas import Problem
from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
SERVING, TRAINING = ROOT / "Dockerfile", ROOT / "docker" / "training.Dockerfile"
BOTH = pytest.mark.parametrize("dockerfile", [SERVING, TRAINING], ids=lambda path: path.name)
PROXY = ROOT / "docker" / "haproxy.cfg"
GPU, CPU = ROOT / "docker-compose.yml", ROOT / "docker-compose.cpu.yml"
OWN_IN_THE_CONTAINER = {"ALNET_HOST", "ALNET_PORT", "ALNET_STORE"}


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the file's (instruction, arguments), continued lines joined, comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines()) if name]


def final_stage(dockerfile: Path) -> dict[str, str]:
    """Return the last arguments of each instruction in the stage that becomes the image."""
    steps = instructions(dockerfile)
    last_from = max(i for i, (name, _) in enumerate(steps) if name == "FROM")
    return dict(steps[last_from:])


def environment(dockerfile: Path) -> dict[str, str]:
    """Return what the image's ENV sets."""
    return dict(pair.split("=", 1) for pair in final_stage(dockerfile)["ENV"].split())


def services(compose: Path) -> dict[str, Any]:
    """Return a Compose file's services as they are written, `extends` not followed."""
    found: dict[str, Any] = yaml.safe_load(compose.read_text())["services"]
    return found


def health_check() -> list[str]:
    """Return the serving image's health check, as a command of this Python."""
    command = json.loads(final_stage(SERVING)["HEALTHCHECK"].partition("CMD ")[2])
    return [sys.executable, *command[1:]]


@contextmanager
def server(status: int, upload_status: int = 200, upload_s: float = 0) -> Iterator[int]:
    """Answer GET /readyz with `status`, /broken not at all, other paths with 404; any POST with `upload_status`.

    That comes `upload_s` after the body.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/broken":
                self.send_response(status if self.path == "/readyz" else 404)
                self.send_header("X-Asked-As", self.headers.get("X-Request-ID", ""))
                self.end_headers()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(upload_s)
            self.send_response(upload_status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield http.server_port
        finally:
            http.shutdown()
            thread.join()


def haproxy_program() -> str:
    """Return the path of HAProxy; the test is skipped where there is none."""
    if not (program := shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")):
        pytest.skip("haproxy is not installed")
    return program


@contextmanager
def proxy(folder: Path, *replicas: int, changed: Mapping[str, str] = MappingProxyType({})) -> Iterator[httpx.Client]:
    """Run HAProxy as configured, but for texts `changed`, before `replicas`, ports of this host; yield a client."""
    socket, config = folder / "proxy", folder / "haproxy.cfg"
    written = PROXY.read_text()
    for text, other in {"bind :8000": f"bind unix@{socket}", **changed}.items():
        assert text in written
        written = written.replace(text, other)
    lines = [f"server replica{port} 127.0.0.1:{port}" for port in replicas]
    written = re.sub(r"server-template .*", "\n    ".join(lines), written)
    config.write_text(re.sub(r"resolvers docker\n(?: .*\n)*| resolvers docker init-addr none", "", written))
    with subprocess.Popen([haproxy_program(), "-db", "-f", str(config)], stdout=subprocess.DEVNULL) as process:
        try:
            while not socket.exists() and process.poll() is None:
                time.sleep(0.01)
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://proxy") as client:
                yield client
        finally:
            process.kill()


def compose_program() -> list[str]:
    """Return the command of Compose, v1 or v2; the test is skipped where there is neither."""
    for command in (["docker-compose"], ["docker", "compose"]):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], capture_output=True, check=False).returncode
        ):
            return command
    pytest.skip("Compose is not installed")


@BOTH
def test_an_image_runs_as_a_numbered_user_that_is_not_root(dockerfile: Path) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final_stage(dockerfile)["USER"])


@BOTH
def test_an_image_copies_only_what_the_ignore_file_lets_in(dockerfile: Path) -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = [rest.split() for name, rest in instructions(dockerfile) if name == "COPY" and "--from" not in rest]
    assert {source.removeprefix("./") for copy in copies for source in copy[:-1]} <= let_in


@BOTH
def test_an_edit_of_the_code_does_not_reinstall_the_dependencies(dockerfile: Path) -> None:
    steps = [f"{name} {rest}" for name, rest in instructions(dockerfile)]
    code = next(i for i, step in enumerate(steps) if step.startswith("COPY service"))
    installs = [i for i, step in enumerate(steps) if "pip" in step and " install " in step and "--no-deps" not in step]
    assert max(installs) < code


@pytest.mark.parametrize(
    ("dockerfile", "extras"),
    [(SERVING, ["serve", "cpu"]), (TRAINING, ["train", "cpu", "quantize"])],
    ids=["serving", "training"],
)
def test_an_image_installs_its_own_extras_and_no_others(dockerfile: Path, extras: list[str]) -> None:
    listing = next(rest for name, rest in instructions(dockerfile) if name == "RUN" and "tomllib" in rest)
    code = re.findall(r'python -c "(.*?)" >', listing)[0]
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [name for extra in extras for name in project["optional-dependencies"][extra]]
    assert printed.splitlines() == project["dependencies"] + wanted


def test_the_serving_image_runs_the_server_as_its_first_process() -> None:
    assert json.loads(final_stage(SERVING)["CMD"]) == ["alnet", "serve"]
    assert "ENTRYPOINT" not in final_stage(SERVING)
    assert final_stage(SERVING)["STOPSIGNAL"] == "SIGTERM"


def test_the_serving_image_sets_the_server_up_for_a_container() -> None:
    settings = Settings.read(environment(SERVING))
    assert settings.host == "0.0.0.0"
    assert str(settings.port) == final_stage(SERVING)["EXPOSE"]
    assert settings.store == Path("/app/model_store")


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)], ids=["ready", "not ready"])
def test_the_health_check_asks_readyz(status: int, code: int) -> None:
    with server(status) as port:
        proxied = {**os.environ, "ALNET_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        assert subprocess.run(health_check(), env=proxied, check=False).returncode == code


def test_the_health_check_fails_if_nothing_listens() -> None:
    with server(200) as port:
        pass
    environ = {**os.environ, "ALNET_PORT": str(port)}
    assert subprocess.run(health_check(), env=environ, capture_output=True, check=False).returncode != 0


def test_compose_leaves_the_health_check_to_the_image() -> None:
    assert "healthcheck" not in services(CPU)["service"]


def test_the_service_is_locked_down() -> None:
    service = services(CPU)["service"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [volume.endswith(":/app/model_store:ro") for volume in service["volumes"]] == [True]


@pytest.mark.parametrize("name", services(CPU))
def test_no_log_grows_for_good(name: str) -> None:
    options = services(CPU)[name]["logging"]["options"]
    assert options == {"max-size": "10m", "max-file": "5"}


@pytest.mark.parametrize("name", services(CPU))
def test_ports_are_published_on_loopback_unless_told_otherwise(name: str) -> None:
    for port in services(CPU)[name].get("ports", []):
        assert port.startswith(("127.0.0.1:", "${ALNET_HOST:-127.0.0.1}:"))


def test_compose_waits_longer_than_the_service_drains() -> None:
    service = services(CPU)["service"]
    assert float(service["stop_grace_period"].removesuffix("s")) > float(
        service["environment"]["ALNET_DRAIN_TIMEOUT_S"]
    )


def test_every_setting_can_be_given_through_compose() -> None:
    names = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(services(CPU)["service"]["environment"]) == names - OWN_IN_THE_CONTAINER


def test_the_gpu_is_reserved_for_the_service_and_the_job() -> None:
    for name in ("service", "train"):
        (device,) = services(GPU)[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert services(GPU)["service"]["environment"] == {"ALNET_DEVICE": "cuda"}


def test_the_stack_without_a_gpu_is_the_same_stack() -> None:
    extended = {name: service["extends"] for name, service in services(GPU).items()}
    assert extended == {name: {"file": CPU.name, "service": name} for name in services(CPU)}
    assert all("deploy" not in service for service in services(CPU).values())


def test_the_training_job_waits_behind_its_profile_and_cannot_touch_the_data() -> None:
    train = services(CPU)["train"]
    assert train["profiles"] == ["train"]
    assert [volume.endswith(":ro") for volume in train["volumes"] if ":/data" in volume] == [True]


def test_the_training_image_runs_whichever_command_follows_and_goes_on_after_a_stop() -> None:
    image = final_stage(TRAINING)
    assert json.loads(image["ENTRYPOINT"]) == ["alnet"]
    assert json.loads(image["CMD"]) == ["train", "--help"]
    assert image["STOPSIGNAL"] == "SIGINT"  # the first process of a container ignores SIGTERM; this ends a run in order


def test_the_training_job_writes_its_runs_and_the_store_of_the_service() -> None:
    train, service = services(CPU)["train"], services(CPU)["service"]
    where = {target: source for source, _, target in (volume.rpartition(":") for volume in train["volumes"])}
    assert {"/runs", "/model_store"} <= set(where)
    assert service["volumes"] == [f"{where['/model_store']}:/app/model_store:ro"]
    assert train["read_only"] is True
    assert train["tmpfs"] == ["/tmp"]


def test_the_command_that_the_training_image_tells_mounts_what_compose_does() -> None:
    """Without the store a run is refused, or what it publishes ends with its container."""
    told = "".join(line for line in TRAINING.read_text().splitlines() if line.startswith("#"))
    targets = {volume.rpartition("}")[2] for volume in services(CPU)["train"]["volumes"]}
    assert set(re.findall(r"-v \S*?(:/[^\s\"]*)", told)) == targets


def test_the_training_job_has_shared_memory_for_loading_processes() -> None:
    """Docker's own 64 MB hold one batch of whole images."""
    assert services(CPU)["train"]["shm_size"] == "1gb"


@pytest.mark.parametrize("name", ["prometheus", "grafana", "proxy"])
def test_images_of_others_are_pinned(name: str) -> None:
    assert re.fullmatch(r".+:v?\d+\.\d+\.\d+", services(CPU)[name]["image"])


@pytest.mark.parametrize("name", services(CPU))
def test_what_is_mounted_from_the_repository_exists(name: str) -> None:
    sources = [volume.split(":")[0] for volume in services(CPU)[name].get("volumes", [])]
    assert [source for source in sources if source.startswith("./") and not (ROOT / source).exists()] == []


def test_prometheus_scrapes_each_replica_of_the_service() -> None:
    (job,) = yaml.safe_load((ROOT / "docker" / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert (found["names"], found["type"], found["port"]) == (["service"], "A", int(final_stage(SERVING)["EXPOSE"]))
    assert "service" in services(CPU)
    assert job.get("metrics_path", "/metrics") == "/metrics"


def test_the_proxy_passes_on_to_the_service_and_waits_for_what_it_still_answers() -> None:
    proxy, service = services(CPU)["proxy"], services(CPU)["service"]
    lines = PROXY.read_text().split("\n")
    assert [line.split()[-1] for line in lines if "server-template" in line] == [
        f"service:{final_stage(SERVING)['EXPOSE']}"
    ]
    assert f"    bind :{proxy['ports'][0].rsplit(':', 1)[1]}" in lines
    assert proxy["profiles"] == ["replicas"]
    assert proxy["stop_grace_period"] == service["stop_grace_period"]


def proxy_waits_s() -> dict[str, int]:
    """Return what the proxy's own variables say if nobody else sets them."""
    return {name: int(seconds) for name, seconds in re.findall(r"presetenv (\w+) (\d+)\n", PROXY.read_text())}


def test_the_proxy_gives_up_later_than_the_service() -> None:
    settings = Settings.read({})
    assert proxy_waits_s()["PROXY_TIMEOUT_S"] > settings.upload_timeout_s + settings.request_timeout_s


def test_how_long_the_proxy_waits_can_be_given_through_compose() -> None:
    """If what is given is empty, as a line without a value in `.env` gives it, the proxy's own waits hold."""
    given = services(CPU)["proxy"]["environment"]
    assert given == {name: f"${{{name}:-{seconds}}}" for name, seconds in proxy_waits_s().items()}


@pytest.mark.parametrize("environment", [{}, {"PROXY_BODY_TIMEOUT_S": "600", "PROXY_TIMEOUT_S": "1300"}])
def test_haproxy_accepts_its_configuration(environment: dict[str, str]) -> None:
    command = [haproxy_program(), "-c", "-f", str(PROXY)]
    checked = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_proxys_own_answers_are_problems() -> None:
    answers = [line for line in PROXY.read_text().splitlines() if re.match(r" +http-(error|request return) ", line)]
    statuses = [int(re.findall(r" status (\d+)", line)[0]) for line in answers]
    assert statuses == [400, 408, 500, 502, 503, 504, 404, 408]
    for status, line in zip(statuses, answers, strict=True):
        (body,) = re.findall(r" content-type application/problem\+json lf-string '(.*?)' ", line)
        problem = Problem.model_validate_json(body)
        assert problem.status == status
        assert f" hdr X-Request-ID {problem.request_id} hdr Cache-Control no-store" in line
        assert line.endswith(" hdr Retry-After 1") == (status in {502, 503})


@pytest.mark.parametrize(("path", "status"), [("/readyz", 503), ("/metrics", 404), ("/%6detrics?a=1", 404)])
def test_the_proxy_without_a_replica_answers_with_the_callers_id(tmp_path: Path, path: str, status: int) -> None:
    with server(200) as port:
        pass
    with proxy(tmp_path, port) as client:
        answer = client.get(path, headers={"X-Request-ID": "ward-3.7"})
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.status) == (status, status)
    assert answer.headers["X-Request-ID"] == problem.request_id == "ward-3.7"


def test_a_replica_that_ends_before_its_answer_is_a_problem(tmp_path: Path) -> None:
    with server(200) as port, proxy(tmp_path, port) as client:
        answer = client.get("/broken")
    assert Problem.model_validate_json(answer.content).status == answer.status_code == 502
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(("sent", "passes"), [("ward-3.7", True), ("no id", False), ("a,b", False)])
def test_the_proxy_passes_on_an_id_that_the_service_would_take(tmp_path: Path, sent: str, passes: bool) -> None:
    with server(200) as port, proxy(tmp_path, port) as client:
        passed_on = client.get("/readyz", headers={"X-Request-ID": sent}).headers["X-Asked-As"]
    assert (passed_on == sent) == passes
    assert SANE_TOKEN.fullmatch(passed_on)


def test_the_proxy_takes_every_head_that_the_service_takes(tmp_path: Path) -> None:
    head = {f"X-{number}": "a" * (MAX_HEAD_BYTES // 8 - 3) for number in range(8)}
    with server(200) as port, proxy(tmp_path, port) as client:
        assert client.get("/readyz", headers=head).status_code == 200


def post(client: httpx.Client, parts: Sequence[bytes], apart_s: float) -> httpx.Response:
    """Upload `parts` as one body of known length, waiting before each of them."""

    def body() -> Iterator[bytes]:
        for part in parts:
            time.sleep(apart_s)
            yield part

    headers = {"Content-Length": str(sum(map(len, parts))), "X-Request-ID": "ward-3.7"}
    return client.post("/segment/skin", content=body(), headers=headers)


@pytest.mark.parametrize("size", [2_000, 65_536])
def test_an_upload_that_a_draining_replica_refuses_goes_to_another(tmp_path: Path, size: int) -> None:
    with server(200, 503) as draining, server(200) as ready, proxy(tmp_path, draining, ready) as client:
        answers = [post(client, [bytes(size)], apart_s=0.02).status_code for _ in range(4)]
    assert answers == [200] * 4


def test_the_proxy_has_more_patience_with_a_small_body_than_with_a_head(tmp_path: Path) -> None:
    hasty = {"timeout http-request 15s": "timeout http-request 100ms"}
    with server(200) as port, proxy(tmp_path, port, changed=hasty) as client:
        assert post(client, [b"a", b"b", b"c"], apart_s=0.1).status_code == 200


def test_a_small_body_that_does_not_come_is_a_problem_with_the_callers_id(tmp_path: Path) -> None:
    hasty = {'wait-for-body time "${PROXY_BODY_TIMEOUT_S}s"': "wait-for-body time 100ms"}
    with server(200) as port, proxy(tmp_path, port, changed=hasty) as client:
        answer = post(client, [b"a", b"b"], apart_s=0.3)
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.status, problem.request_id) == (408, 408, "ward-3.7")


def test_a_body_has_as_long_to_arrive_at_the_proxy_as_at_the_service() -> None:
    assert proxy_waits_s()["PROXY_BODY_TIMEOUT_S"] == Settings.read({}).upload_timeout_s


@pytest.mark.parametrize(("name", "status"), [("PROXY_BODY_TIMEOUT_S", 408), ("PROXY_TIMEOUT_S", 504)])
def test_the_environment_says_how_long_the_proxy_waits(
    tmp_path: Path, name: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with server(200, upload_s=1.3) as port, proxy(tmp_path, port) as client:
        assert post(client, [b"a", b"b"], apart_s=0.7).status_code == status


@contextmanager
def replica_that_takes_its_time() -> Iterator[tuple[int, Event]]:
    """Answer nothing; yield a port and what is set once whoever asked there for anything but /readyz has left."""
    is_left = Event()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            if b"/readyz" in self.request.recv(4096):
                self.request.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            else:
                with suppress(ConnectionResetError):
                    while self.request.recv(4096):
                        pass
                is_left.set()

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as tcp:
        thread = Thread(target=tcp.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield tcp.server_address[1], is_left
        finally:
            tcp.shutdown()
            thread.join()


def test_who_leaves_the_proxy_is_missed_by_the_replica(tmp_path: Path) -> None:
    """Else it runs the uploads of callers who have hung up, before those of callers who have not."""
    with replica_that_takes_its_time() as (port, is_left), proxy(tmp_path, port) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/segment/skin", content=b"image", timeout=0.2)
        assert is_left.wait(timeout=5)


def test_the_proxy_does_not_wait_for_a_large_body(tmp_path: Path) -> None:
    """The service refuses a caller without a key before it asks for any of it."""
    hasty = {'wait-for-body time "${PROXY_BODY_TIMEOUT_S}s"': "wait-for-body time 100ms"}
    with server(200) as port, proxy(tmp_path, port, changed=hasty) as client:
        assert post(client, [bytes(35_000), bytes(35_000)], apart_s=0.3).status_code == 200


@pytest.mark.parametrize("compose", [GPU, CPU], ids=lambda path: path.name)
def test_compose_accepts_the_file(compose: Path) -> None:
    command = [*compose_program(), "-f", str(compose), "config"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    service = yaml.safe_load(checked.stdout)["services"]["service"]
    assert ("deploy" in service) == (compose == GPU)
    assert service["environment"]["ALNET_DEVICE"] == ("cuda" if compose == GPU else "cpu")


def fired(summary: str, **labels: str) -> dict[str, Any]:
    """Return an alert as promtool wants to be told of it."""
    return {"exp_labels": labels, "exp_annotations": {"summary": summary}}


def check_alert(folder: Path, name: str, at: str, series: dict[str, str], expected: list[dict[str, Any]]) -> None:
    """Have promtool compare what fires under this name with what is `expected`; each value stands for 15 seconds."""
    if not (program := shutil.which("promtool")):
        pytest.skip("promtool is not installed")
    case = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": expected}],
    }
    rules = {"rule_files": [str(ROOT / "docker" / "alerts.yml")], "evaluation_interval": "15s", "tests": [case]}
    (folder / "test.yml").write_text(yaml.safe_dump(rules))
    command = [program, "test", "rules", str(folder / "test.yml")]
    tested = subprocess.run(command, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("reason", "is_overload"),
    [("overloaded", True), ("memory-short", True), ("rate-limited", False), ("own-deadline", False)],
)
def test_a_full_queue_is_an_overload_and_a_callers_own_limits_are_none(
    tmp_path: Path, reason: str, is_overload: bool
) -> None:
    series = {
        f'alnet_refused_total{{instance="a", reason="{reason}"}}': "0+8x80",
        'alnet_requests_total{instance="a", modality="retina", status="429"}': "0+8x80",
        'alnet_requests_total{instance="a", modality="retina", status="200"}': "0+16x80",
    }
    summary = "Over 5 % of the uploads to a find a queue full or memory short, or run out of time."
    overload = fired(summary, instance="a", severity="warning")
    check_alert(tmp_path, "AlnetOverloaded", "15m", series, [overload] if is_overload else [])


def test_callers_without_a_key_do_not_hide_an_overload(tmp_path: Path) -> None:
    series = {
        'alnet_refused_total{instance="a", reason="overloaded"}': "0+8x80",
        'alnet_requests_total{instance="a", modality="retina", status="429"}': "0+8x80",
        'alnet_requests_total{instance="a", modality="retina", status="200"}': "0+8x80",
        'alnet_requests_total{instance="a", modality="retina", status="401"}': "0+800x80",
    }
    summary = "Over 5 % of the uploads to a find a queue full or memory short, or run out of time."
    check_alert(tmp_path, "AlnetOverloaded", "15m", series, [fired(summary, instance="a", severity="warning")])


@pytest.mark.parametrize(("every_min", "at", "is_told"), [(5, "30m", True), (16, "2h", True), (90, "8h", False)])
def test_a_service_that_begins_anew_again_and_again_is_told_of(
    tmp_path: Path, every_min: int, at: str, *, is_told: bool
) -> None:
    starts = " ".join(str(60 * (minute // every_min)) for minute in range(480) for _ in range(4))
    summary = "a has ended and begun anew several times in half an hour, or many times in six."
    told = fired(summary, instance="a", job="alnet", severity="critical")
    series = {'process_start_time_seconds{job="alnet", instance="a"}': starts}
    check_alert(tmp_path, "AlnetRestarts", at, series, [told] if is_told else [])


@pytest.mark.parametrize(("minutes_apart", "is_told"), [(1, True), (30, False)])
def test_images_unlike_the_training_images_are_told_of_where_there_are_enough(
    tmp_path: Path, minutes_apart: int, is_told: bool
) -> None:
    """Every other upload is unlike: of a few uploads that says nothing."""
    values = " ".join(str(minute // minutes_apart) for minute in range(120) for _ in range(4))
    halves = " ".join(str(minute // minutes_apart // 2) for minute in range(120) for _ in range(4))
    labels = 'instance="a", modality="retina"'
    series = {
        f'alnet_requests_total{{{labels}, status="200"}}': values,
        f'alnet_warnings_total{{{labels}, code="unlike_training_images"}}': halves,
        f'alnet_warnings_total{{{labels}, code="reference_not_binary"}}': "0x480",
    }
    summary = (
        "One upload in five to retina, or its mask, is unlike those of the training: "
        "another camera, or another kind of image."
    )
    told = fired(summary, instance="a", modality="retina", severity="warning")
    check_alert(tmp_path, "AlnetUnlikeTrainingImages", "110m", series, [told] if is_told else [])


ENDS_BEFORE_IT_LISTENS = "0 0 stale _ " * 40
"""`up` of a container that Compose starts again and again: while it is stopped it has no address."""


def test_a_service_that_ends_before_it_listens_is_gone(tmp_path: Path) -> None:
    series = {'up{job="alnet", instance="a"}': ENDS_BEFORE_IT_LISTENS}
    gone = fired("No replica of the service answers scrapes.", severity="critical")
    check_alert(tmp_path, "AlnetGone", "10m", series, [gone])


def test_one_replica_of_several_that_ends_before_it_listens_is_down(tmp_path: Path) -> None:
    series = {'up{job="alnet", instance="a"}': ENDS_BEFORE_IT_LISTENS, 'up{job="alnet", instance="b"}': "1x160"}
    down = fired("a does not answer scrapes.", instance="a", job="alnet", severity="critical")
    check_alert(tmp_path, "AlnetDown", "10m", series, [down])
    check_alert(tmp_path, "AlnetGone", "10m", series, [])


@pytest.mark.parametrize("minutes", [5, 6, 7, 8, 9])
def test_a_replica_that_is_taken_away_is_not_down(tmp_path: Path, minutes: int) -> None:
    series = {'up{job="alnet", instance="a"}': "1x19 0 stale _x40", 'up{job="alnet", instance="b"}': "1x60"}
    check_alert(tmp_path, "AlnetDown", f"{minutes}m", series, [])


@pytest.mark.parametrize(("masks", "is_low"), [(100, True), (1, False)])
def test_one_mask_does_not_tell_that_they_are_worse(tmp_path: Path, masks: int, is_low: bool) -> None:
    labels = '{job="alnet", instance="a", modality="skin"}'
    series = {
        f"alnet_expected_iou_ratio_count{labels}": f"0x40 {masks}x960",
        f"alnet_expected_iou_ratio_sum{labels}": f"0x40 {0.3 * masks}x960",
        f"alnet_validated_iou_ratio{labels}": "0.8x1000",
    }
    summary = "Masks of skin are expected to be clearly worse than on the checkpoint's test images."
    low = fired(summary, instance="a", job="alnet", modality="skin", severity="warning")
    check_alert(tmp_path, "AlnetExpectedIouLow", "4h", series, [low] if is_low else [])


@pytest.mark.parametrize(("images", "masks", "fires"), [(3, 0, True), (0, 3, True), (1, 1, False)])
def test_unlike_images_and_unlike_masks_are_told_of_and_no_upload_counts_twice(
    tmp_path: Path, images: int, masks: int, fires: bool
) -> None:
    of = 'job="alnet", instance="a", modality="cell"'
    series = {
        f'alnet_warnings_total{{{of}, code="unlike_training_images"}}': f"0+{images}x720",
        f'alnet_warnings_total{{{of}, code="unlike_training_masks"}}': f"0+{masks}x720",
        f'alnet_warnings_total{{{of}, code="both_masks_empty"}}': "0+9x720",
        f'alnet_requests_total{{{of}, status="200"}}': "0+9x720",
    }
    kind = "another camera, or another kind of image"
    summary = f"One upload in five to cell, or its mask, is unlike those of the training: {kind}."
    alert = fired(summary, instance="a", job="alnet", modality="cell", severity="warning")
    check_alert(tmp_path, "AlnetUnlikeTrainingImages", "2h30m", series, [alert] if fires else [])


def test_prometheus_accepts_its_configuration_and_rules() -> None:
    if not (program := shutil.which("promtool")):
        pytest.skip("promtool is not installed")
    command = [program, "check", "config", str(ROOT / "docker" / "prometheus.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr

"""The instruments over HTTP, with a toy that needs no model."""

import base64
import json
import threading

import httpx
import pytest

from tests.instruments.conftest import toy  # noqa: F401
from thermoscope import instruments
from thermoscope.instruments.shape import source
from thermoscope.server import jobs

from .conftest import serving
from .scripted import wait_until

COIN = "/v1/instruments/coin"


@pytest.fixture
def coin(toy, client):  # noqa: F811
    """Post to the toy; the app must be made after the toy is on its shelf."""
    return lambda body=None, **more: client.post(COIN, json=body or {}, **more)


@pytest.fixture
def client(toy, model):  # noqa: F811
    from starlette.testclient import TestClient

    from thermoscope.server.app import create_app

    with TestClient(create_app(model)) as client:
        yield client


@pytest.fixture
def held(monkeypatch, toy):  # noqa: F811
    """The toy's readings wait at their first step until they are let go."""
    module = instruments.instrument("coin").module
    going, gate, read = threading.Event(), threading.Event(), module.read

    def waiting(settings, lab):
        lab.progress("waiting", 0, 1)
        going.set()
        while not gate.wait(0.01):
            lab.progress("waiting", 0, 1)
        return read(settings, lab)

    monkeypatch.setattr(module, "read", waiting)
    waiting.going, waiting.gate = going, gate
    yield waiting
    gate.set()


def error_of(response, status=400):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def test_a_reading_is_the_answer(coin):
    plain = coin({"p": 0.25}).json()
    assert plain["card"] == "coin"
    assert plain["settings"]["p"] == 0.25
    assert plain["passed"] is True
    assert "figures" not in plain


def test_figures_come_where_they_are_asked_for(coin):
    figures = coin({}, params={"figures": True}).json()["figures"]
    assert figures["sides"]["data"][0]["type"] == "bar"


@pytest.mark.parametrize(
    ("body", "param"),
    [({"p": 2}, "p"), ({"p": "0.5"}, "p"), ({"tempo": 1}, "tempo"), ({"sides": ["one"]}, "sides")],
)
def test_bad_settings_are_400_with_the_field_s_name(coin, body, param):
    error = error_of(coin(body))
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", ["", "{", "[]", '"p"', "\xff"])
def test_a_body_that_is_no_object_is_400(client, body):
    response = client.post(COIN, content=body.encode("latin-1"), headers={"content-type": "application/json"})
    assert "expected" in error_of(response)["message"]


def test_an_unknown_instrument_is_404(client):
    for response in (client.post("/v1/instruments/heat", json={}), client.get("/v1/instruments/heat")):
        error = error_of(response, 404)
        assert "got 'heat', expected one of " in error["message"]
        assert "coin" in error["message"]


def test_a_file_may_stand_in_the_body(coin):
    for notes in ("abc", {"name": "n", "text": "abc"}, {"base64": base64.b64encode(b"abc").decode()}):
        assert coin({"notes": notes}).json()["settings"]["notes"]["bytes"] == 3


def test_a_file_may_be_uploaded(client):
    form = {"data": {"settings": json.dumps({"p": 0.75})}, "files": {"notes": ("notes.bin", b"\x00\xff\x00")}}
    plain = client.post(COIN, **form).json()
    assert plain["settings"]["p"] == 0.75
    assert plain["settings"]["notes"] | {"sha256": ""} == {"name": "notes.bin", "bytes": 3, "sha256": ""}


def test_an_upload_is_bounded_and_belongs_to_a_file(client, monkeypatch):
    monkeypatch.setattr(source, "LIMIT", 4)
    assert error_of(client.post(COIN, files={"notes": ("n", b"12345")}))["param"] == "notes"
    assert error_of(client.post(COIN, files={"p": ("n", b"1")}))["param"] == "p"
    error = error_of(client.post(COIN, data={"p": "0.5"}, files={"notes": ("n", b"1")}))
    assert "got text, expected a file" in error["message"]
    broken = client.post(COIN, content=b"--x", headers={"content-type": "multipart/form-data; boundary=x"})
    assert broken.status_code in (200, 400)
    bad = client.post(COIN, content=b"--x", headers={"content-type": "multipart/form-data"})
    error_of(bad)


def test_no_path_in_a_request_is_opened(coin, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("a secret that is long", encoding="utf-8")
    for notes in (str(secret), {"name": str(secret), "text": ""}):
        assert coin({"notes": notes}).json()["settings"]["notes"]["bytes"] != 21


def test_a_long_reading_is_a_job(coin, client, held):
    response = coin({"p": 0.5}, params={"background": True})
    assert response.status_code == 202
    where = response.headers["location"]
    assert where == f"/v1/instruments/jobs/{response.json()['id']}"
    assert held.going.wait(5)
    state = client.get(where).json()
    assert (state["status"], state["instrument"], state["reading"]) == ("running", "coin", None)
    assert state["progress"] == {"what": "waiting", "done": 0, "total": 1}
    held.gate.set()
    wait_until(lambda: client.get(where).json()["status"] == "completed")
    assert client.get(where).json()["reading"]["settings"]["p"] == 0.5
    assert "sides" in client.get(where, params={"figures": True}).json()["reading"]["figures"]


def test_a_job_tells_of_its_progress_and_ends_with_the_reading(coin, client):
    where = coin({"tosses": 5}, params={"background": True}).headers["location"]
    with client.stream("GET", f"{where}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    assert lines[-2] == "event: completed"
    assert json.loads(lines[-1].removeprefix("data: "))["reading"]["passed"] is True


def test_a_running_job_can_be_called_off(coin, client, held):
    where = coin({}, params={"background": True}).headers["location"]
    assert held.going.wait(5)
    assert client.delete(where).json()["status"] == "cancelled"
    wait_until(lambda: client.get(where).json()["error"])
    assert client.get(where).json()["status"] == "cancelled"
    assert client.get(where).json()["error"]["code"] == "cancelled"
    assert client.delete(where).json()["status"] == "cancelled"  # twice does no harm
    error_of(client.delete(f"{where}x"), 404)
    held.going.clear()
    assert coin({}, params={"background": True}).status_code == 202
    assert held.going.wait(5)  # the one that was called off holds nobody up


def test_a_waiting_job_can_be_called_off(coin, client, held):
    first = coin({}, params={"background": True}).headers["location"]
    assert held.going.wait(5)
    second = coin({}, params={"background": True}).headers["location"]
    assert client.get(second).json()["status"] == "queued"
    assert client.delete(second).json()["status"] == "cancelled"
    held.gate.set()
    wait_until(lambda: client.get(first).json()["status"] == "completed")


def test_too_many_that_wait_are_turned_away(coin, client, held, monkeypatch):
    monkeypatch.setattr(jobs, "WAITING", 2)
    coin({}, params={"background": True})
    assert held.going.wait(5)
    for _ in range(2):
        assert coin({}, params={"background": True}).status_code == 202
    response = coin({}, params={"background": True})
    assert error_of(response, 429)["code"] == "too_busy"
    assert int(response.headers["retry-after"]) > 0


def test_only_the_last_ones_are_kept(coin, client, monkeypatch):
    monkeypatch.setattr(jobs, "KEPT", 2)
    places = []
    for _ in range(5):
        places.append(coin({}, params={"background": True}).headers["location"])
        wait_until(lambda: client.get(places[-1]).json()["status"] == "completed")
    assert [client.get(place).status_code for place in places[:2]] == [404, 404]
    assert client.get(places[-1]).status_code == 200


def test_a_reading_that_fails_says_why(coin, client, monkeypatch):
    module = instruments.instrument("coin").module

    def broken(settings, lab):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(module, "read", broken)
    error = error_of(coin({}), 500)
    assert "secret" not in error["message"]
    where = coin({}, params={"background": True}).headers["location"]
    wait_until(lambda: client.get(where).json()["status"] == "failed")
    assert client.get(where).json()["error"]["type"] == "server_error"


def test_a_client_that_goes_away_calls_its_reading_off(toy, model, held):  # noqa: F811
    with serving(model) as address:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}{COIN}", json={}, timeout=0.3)
        assert held.going.is_set()
        held.going.clear()
        with pytest.raises(httpx.ReadTimeout):  # it is this one's turn now, though the gate is closed
            httpx.post(f"{address}{COIN}", json={}, timeout=0.5)
        assert held.going.is_set()


def test_what_is_called_off_leaves_the_queue(coin, client, held):
    coin({}, params={"background": True})
    assert held.going.wait(5)
    for _ in range(3 * jobs.WAITING):
        where = coin({}, params={"background": True})
        assert where.status_code == 202
        client.delete(where.headers["location"])


def test_who_waits_goes_before_jobs_in_the_background(coin, client, held, model):
    order, module = [], instruments.instrument("coin").module
    waiting = module.read
    module.read = lambda settings, lab: order.append(settings.p) or waiting(settings, lab)
    coin({"p": 0.1}, params={"background": True})
    assert held.going.wait(5)
    coin({"p": 0.2}, params={"background": True})
    asking = threading.Thread(target=lambda: coin({"p": 0.3}))
    asking.start()
    wait_until(lambda: len(client.app.state.jobs._waiting) == 2)
    held.gate.set()
    asking.join(5)
    wait_until(lambda: len(order) == 3)
    assert order == [0.1, 0.3, 0.2]


def test_a_listener_that_fails_breaks_no_job(toy):  # noqa: F811
    instrument = instruments.instrument("coin")
    job = jobs.Job(instrument, instrument.settings.parse({}), lambda: None)

    def gone():
        raise RuntimeError("Event loop is closed")

    job.listen(gone)
    job.run()
    assert job.status == "completed"


def test_an_unexpected_failure_is_logged_once(coin, client, monkeypatch, caplog):
    module = instruments.instrument("coin").module

    def broken(settings, lab):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(module, "read", broken)
    where = coin({}, params={"background": True}).headers["location"]
    wait_until(lambda: client.get(where).json()["status"] == "failed")
    for _ in range(3):
        assert "secret" not in client.get(where).text
    assert caplog.text.count("ZeroDivisionError: secret detail") == 1


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"[" * 200_000, "application/json", "nested too deeply"),
        (b'{"p": "caf\xe9"}', "application/json", "broken JSON ('utf-8' codec"),
        (b'{"p": 0.5, "p": 0.6}', "application/json", "got 'p' twice in one object, expected it once"),
        (b'{"notes": {"a": 1, "a": 1}}', "application/json", "got 'a' twice"),
        (b"{}", "text/plain", "got Content-Type text/plain, expected application/json"),
        (b"{}", "", "got Content-Type none"),
    ],
)
def test_a_body_that_is_not_json_is_refused(client, content, kind, message):
    response = client.post(COIN, content=content, headers={"content-type": kind})
    assert message in error_of(response)["message"]


def test_settings_may_be_a_file_of_the_form(client):
    plain = client.post(COIN, files={"settings": ("s.json", b'{"p": 0.75}')}).json()
    assert plain["settings"]["p"] == 0.75


def test_another_site_s_page_may_not_send_forms(client):
    form = {"files": {"notes": ("n", b"1")}}
    assert client.post(COIN, **form, headers={"origin": "http://testserver"}).status_code == 200
    error = error_of(client.post(COIN, **form, headers={"origin": "http://elsewhere.example"}))
    assert "elsewhere.example" in error["message"]


def test_nobody_far_away_measures_the_server(client):
    error = error_of(client.post("/v1/instruments/latency", json={"calibrate": True}))
    assert error["param"] == "calibrate"
    assert error["message"].startswith("calibrate: got true over HTTP, expected false")

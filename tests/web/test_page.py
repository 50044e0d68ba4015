"""The page as a reader meets it: real model, real server, real browser."""

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

pytestmark = pytest.mark.browser
if shutil.which("chromium") is None:
    reason = "no chromium on the path, so the page is not tested; apt-get install chromium"
    pytest.skip(reason, allow_module_level=True)

QUESTION = "What is the capital of France?"
TAKES_LONG = "Tell me the story of glass, from sand to telescopes, in many chapters."
NARROW = 360
AA = 4.5  # least contrast of text that WCAG 2.2 allows at level AA

CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : colour;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.matches(":disabled")) continue;
    const pair = [luminance(getComputedStyle(element).color), luminance(behind(element))].sort();
    found.push([(pair[1] + 0.05) / (pair[0] + 0.05), node.data.trim()]);
  }
  return found;
}"""


def ask(page: Page, text: str, **settings: str) -> None:
    for name, value in settings.items():
        page.fill(f"#{name}", value)
    page.fill("#prompt", text)
    page.keyboard.press("Enter")


def answered(page: Page) -> Locator:
    """The last answer, once it is complete."""
    answer = page.locator(".answer").last
    expect(answer.locator(".facts")).not_to_be_empty(timeout=120_000)
    return answer


def number(page: Page, field: str) -> float:
    """The full number that a field of the panel holds."""
    return float(page.locator(f"[data-field={field}]").get_attribute("value") or "nan")


def line(token: Locator) -> float:
    """How far down the screen a token begins."""
    return float(token.evaluate("(token) => token.getClientRects()[0].top"))


def scripted(page: Page, *chunks: dict[str, Any], end: str = "data: [DONE]\n\n") -> None:
    """Answers the page's next requests with these chunks, for what a real model does too seldom."""

    def fulfil(route: Route) -> None:
        body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end
        route.fulfill(content_type="text/event-stream", body=body)

    page.route("**/v1/chat/completions", fulfil)


def chunk(content: str, *steps: tuple[str, bytes], finish: str | None = None) -> dict[str, Any]:
    """One chunk of a stream, whose steps have these texts and bytes."""
    records = [
        {
            "token": 7,
            "text": text,
            "bytes": list(own),
            "ms": 1.0,
            "logprob": -1.5,
            "sampler_logprob": -1.0,
            "entropy": 2.0,
            "log_z": 9.0,
            "kept": 40,
            "removed_mass": 0.25,
            "alternatives": [{"token": 5, "text": " a", "logprob": -0.5, "sampler_logprob": "-inf"}],
        }
        for text, own in steps
    ]
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return {"choices": [choice | {"thermoscope": {"steps": records}}]}


def steps_of(address: str, text: str) -> tuple[str, list[dict[str, Any]]]:
    """The answer and its steps, asked for without the page."""
    reply = httpx.post(
        f"{address}/v1/chat/completions",
        json={
            "model": httpx.get(f"{address}/health").json()["model"],
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "top_p": 0.8,
            "max_tokens": 256,
            "thermoscope": {"steps": True},
        },
        timeout=120,
    )
    choice = reply.raise_for_status().json()["choices"][0]
    return choice["message"]["content"], choice["thermoscope"]["steps"]


def test_header_names_the_machine(page: Page, address: str) -> None:
    health = httpx.get(f"{address}/health").json()
    expect(page.locator("#model")).to_have_text(health["model"])
    expect(page.locator("#precision")).to_have_text(health["precision"])
    context = page.locator("#context").inner_text()
    assert int("".join(filter(str.isdigit, context))) == health["context"]


def test_answer_streams_in_tokens_tinted_by_surprisal(page: Page, address: str) -> None:
    ask(page, QUESTION, temperature="0")
    answer = answered(page)
    text, steps = steps_of(address, QUESTION)
    assert "Paris" in text
    assert answer.locator(".text").text_content() == text
    assert answer.locator(".token").all_text_contents() == [step["text"] for step in steps]
    assert "".join(step["text"] for step in steps) == text
    tints = answer.locator(".token").evaluate_all(
        "(tokens) => tokens.map((token) => Number(token.style.getPropertyValue('--heat')))"
    )
    assert tints == pytest.approx([min(-step["logprob"] / 6, 1) for step in steps], abs=2e-3)


def test_panel_agrees_with_the_step(page: Page, address: str) -> None:
    ask(page, QUESTION, temperature="0")
    token = answered(page).locator(".token", has_text="Paris").first
    token.click()
    _, steps = steps_of(address, QUESTION)
    step = next(step for step in steps if "Paris" in step["text"])
    expect(page.locator("#token-name")).to_have_text(step["text"].replace(" ", "␣"))
    expect(page.locator("#token-id")).to_have_text(str(step["token"]))
    expect(page.locator("#token-bytes")).to_have_text(bytes(step["bytes"]).hex(" ").upper())
    expected = {
        "probability": math.exp(step["logprob"]),
        "surprisal": -step["logprob"],
        "surprisal_bits": -step["logprob"] / math.log(2),
        "sampler_probability": 1.0,  # at temperature 0
        "entropy": step["entropy"],
        "entropy_bits": step["entropy"] / math.log(2),
        "choices": math.exp(step["entropy"]),
        "kept": step["kept"],
        "removed_mass": step["removed_mass"],
        "log_z": step["log_z"],
    }
    assert {field: number(page, field) for field in expected} == pytest.approx(expected, abs=2e-3)
    assert page.locator("[data-field=probability]").inner_text() == f"{expected['probability']:.4f}"
    assert page.locator("[data-field=kept]").inner_text().startswith(str(step["kept"]))

    rows = page.locator("#alternatives tr[data-token]")
    assert rows.count() == 20
    tokens = rows.evaluate_all("(rows) => rows.map((row) => Number(row.dataset.token))")
    shown = rows.evaluate_all("(rows) => rows.map((row) => Number(row.querySelector('data').value))")
    assert tokens == [other["token"] for other in step["alternatives"]]
    assert shown == pytest.approx([math.exp(o["logprob"]) for o in step["alternatives"]], abs=2e-3)
    kept = [other["token"] for other in step["alternatives"] if other["sampler_logprob"] != "-inf"]
    assert [t for t, row in zip(tokens, rows.all(), strict=True) if row.locator("s").count() == 0] == kept
    chosen = page.locator("#alternatives tr[aria-current=true]")
    expect(chosen).to_have_count(1)
    expect(chosen).to_have_attribute("title", f"{step['text'].replace(' ', '␣')} · token id {step['token']}")
    expect(page.locator(".needle")).to_be_visible()


def test_tokens_are_reached_and_left_by_keyboard(page: Page) -> None:
    ask(page, QUESTION, temperature="0")
    tokens = answered(page).locator(".token")
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(tokens.first).to_be_focused()
    page.keyboard.press("Enter")
    expect(tokens.first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(page.locator("#position")).to_have_text(f"token 2 of {tokens.count()}")
    page.keyboard.press("End")
    expect(tokens.last).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(tokens.last).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Home")
    page.locator("#next").click()
    expect(tokens.nth(1)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(page.locator(".step-body")).to_be_hidden()
    expect(page.locator("[aria-selected=true]")).to_have_count(0)


def test_arrows_up_and_down_move_between_lines(page: Page) -> None:
    words = [("Glass", b"Glass"), *[(" window", b" window")] * 59]
    scripted(page, chunk("Glass" + " window" * 59, *words, finish="stop"))
    ask(page, QUESTION)
    tokens = answered(page).locator(".token")
    tokens.first.click()
    page.keyboard.press("ArrowDown")
    first, below = line(tokens.first), line(page.locator(".token:focus"))
    assert 20 < below - first < 50
    page.keyboard.press("ArrowUp")
    assert line(page.locator(".token:focus")) == first


def test_stop_ends_the_answer_and_frees_the_slot(page: Page, address: str) -> None:
    ask(page, TAKES_LONG, temperature="0", max_tokens="2000")
    expect(page.locator(".token").nth(4)).to_be_attached(timeout=60_000)
    page.click("#stop")
    expect(answered(page).locator(".facts")).to_contain_text("stopped")
    deadline = time.monotonic() + 10
    while httpx.get(f"{address}/health").json()["running"]:
        assert time.monotonic() < deadline, "the slot is still in use"
        time.sleep(0.05)
    ask(page, QUESTION, max_tokens="4")
    expect(answered(page).locator(".facts")).to_contain_text("reached max_tokens")


def test_refusal_shows_and_the_next_request_goes_through(page: Page, complaints: list[str]) -> None:
    ask(page, QUESTION, temperature="0", top_p="3")
    error = page.locator(".turn.error")
    expect(error).to_contain_text("top_p: got 3")
    expect(error).to_contain_text("status 400")
    expect(page.locator("#prompt")).to_have_value(QUESTION)
    expect(page.locator("#top_p")).to_have_attribute("aria-invalid", "true")
    assert [text for text in complaints if "400" not in text] == []
    complaints.clear()  # Chromium itself writes a line for every status of 400 and more
    page.fill("#top_p", "0.9")
    expect(page.locator("#top_p")).not_to_have_attribute("aria-invalid", "true")
    page.click("#send")
    expect(answered(page).locator(".text")).to_contain_text("Paris")


def test_settings_arrive_as_typed(page: Page) -> None:
    bodies: list[dict[str, Any]] = []
    page.on("request", lambda request: bodies.append(request.post_data_json) if request.post_data else None)
    scripted(page, chunk("Glass.", ("Glass.", b"Glass."), finish="stop"))
    ask(
        page,
        "One",
        temperature="inf",
        top_k="5",
        min_p="0.1",
        seed="18446744073709551615",
        system="Be brief.",
    )
    answered(page)
    ask(page, "Two", temperature="", seed="", system="")
    expect(page.locator(".facts").nth(1)).not_to_be_empty()
    first, second = bodies
    assert first["temperature"] == "inf"
    assert first["thermoscope"] == {"steps": True, "top_k": 5, "min_p": 0.1}
    assert first["seed"] == 2**64 - 1
    assert first["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One"},
    ]
    assert "temperature" not in second
    assert "seed" not in second
    assert second["messages"] == [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Glass."},
        {"role": "user", "content": "Two"},
    ]
    page.click("#new-chat")
    expect(page.locator(".turn")).to_have_count(0)


def test_error_within_the_stream_shows_and_is_not_part_of_the_conversation(page: Page) -> None:
    problem = {"message": "The engine was stopped.", "type": "server_error", "param": None, "code": None}
    scripted(page, chunk("Gla", ("Gla", b"Gla")), {"error": problem}, end="")
    ask(page, QUESTION)
    expect(page.locator(".turn.error")).to_contain_text("The engine was stopped.")
    expect(page.locator(".answer .text")).to_have_text("Gla")
    expect(page.locator("#prompt")).to_have_value(QUESTION)
    bodies: list[dict[str, Any]] = []
    page.on("request", lambda request: bodies.append(request.post_data_json))
    page.click("#send")
    expect(page.locator(".turn.error")).to_have_count(2)
    assert [message["role"] for message in bodies[0]["messages"]] == ["user"]


def test_stream_that_breaks_off_is_an_error(page: Page) -> None:
    scripted(page, chunk("Gla", ("Gla", b"Gla")), end="")
    ask(page, QUESTION)
    expect(page.locator(".turn.error")).to_contain_text("broke off")


def test_text_that_a_stop_string_takes_back_is_never_shown(page: Page) -> None:
    scripted(
        page,
        chunk("Glass", ("Glass", b"Glass")),
        chunk("", (" EN", b" EN"), ("D", b"D")),
        chunk(" ", finish="stop"),
    )
    ask(page, QUESTION)
    answer = answered(page)
    assert answer.locator(".text").text_content() == "Glass "
    assert answer.locator(".token").all_text_contents() == ["Glass", " ", ""]
    answer.locator(".token").last.click()
    expect(page.locator("#token-note")).to_contain_text("Taken back")
    expect(page.locator("#token-name")).to_have_text("D")


def test_token_that_holds_part_of_a_character_can_be_opened(page: Page) -> None:
    scripted(page, chunk("é", ("", b"\xc3"), ("é", b"\xa9")), chunk("", ("", b""), finish="stop"))
    ask(page, QUESTION)
    answer = answered(page)
    assert answer.locator(".text").text_content() == "é"
    notes = []
    for token in answer.locator(".token").all():
        token.click()
        notes.append((page.locator("#token-name").inner_text(), page.locator("#token-note").inner_text()))
    assert [name for name, _ in notes] == ["⟨C3⟩", "⟨A9⟩", "⟨control⟩"]
    assert ["later token completes" in notes[0][1], "Completes “é”" in notes[1][1]] == [True, True]
    assert "control token" in notes[2][1]


def test_markup_in_an_answer_stays_text(page: Page) -> None:
    markup = "<img src=x onerror=alert(1)>"
    scripted(page, chunk(markup, (markup, markup.encode()), finish="stop"))
    ask(page, markup)
    answer = answered(page)
    assert answer.locator(".text").text_content() == markup
    answer.locator(".token").click()
    expect(page.locator("#token-name")).to_have_text(markup.replace(" ", "␣"))
    expect(page.locator("img")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    steps = [(text, text.encode()) for text in ("Cold", " cool", " warm", " hot")]
    scripted(page, chunk("Cold cool warm hot", *steps, finish="stop"))
    ask(page, QUESTION)
    tokens = answered(page).locator(".token")
    tokens.first.click()
    tokens.evaluate_all("(all) => all.forEach((t, i) => t.style.setProperty('--heat', String(i / 3)))")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 60
    assert [pair for pair in contrasts if pair[0] < AA] == []


def test_page_fits_a_narrow_screen(page: Page) -> None:
    page.set_viewport_size({"width": NARROW, "height": 740})
    text = "Glass" + "y" * 60 + " window" * 20
    scripted(page, chunk(text, (text, text.encode()), finish="stop"))
    ask(page, QUESTION)
    answered(page).locator(".token").click(position={"x": 5, "y": 5})
    expect(page.locator("#close")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW
    page.click("#close")
    page.click("#settings-toggle")
    page.fill("#temperature", "0.4")
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW


@pytest.mark.skipif(
    "THERMOSCOPE_SCREENSHOT" not in os.environ, reason="THERMOSCOPE_SCREENSHOT names no file to write"
)
def test_screenshot(browser: Browser, address: str) -> None:
    """Writes the README's picture: a question, its answer, and one of its steps."""
    page = browser.new_page(
        viewport={"width": 1400, "height": 900}, device_scale_factor=1.5, reduced_motion="reduce"
    )
    page.goto(address)
    ask(page, QUESTION, temperature="0")
    answered(page)
    ask(page, "Tell me in two sentences why the sky is blue.", temperature="0.9", seed="2")
    tokens = answered(page).locator(".token")
    heats = tokens.evaluate_all("(all) => all.map((t) => Number(t.style.getPropertyValue('--heat')))")
    for index in sorted(range(len(heats)), key=heats.__getitem__, reverse=True):
        tokens.nth(index).click()
        if 8 <= number(page, "kept") <= 16:  # so that the picture shows what was cut
            break
    page.mouse.move(1, 1)
    path = Path(os.environ["THERMOSCOPE_SCREENSHOT"])
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)
    page.close()
    assert path.stat().st_size < 400_000
